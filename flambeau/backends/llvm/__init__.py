"""Native code at run time through LLVM (llvmlite, which is loaded by the modules here, never at `import flambeau`).

- `registers`: dtypes as LLVM types, constants, loads and stores.
- `scalars`: `Scalar` and `Maths`, the language of elementwise rules; `arithmetic` has its longer operations.
- `functions`: exp, tanh, … as vector code: `functions32`, `functions64`, rarer float32 ones in `functions_wide`.
- `jit`: IR to object file to code in memory, for the processor at hand; `symbols`: what code may call.
- `runtime`: loops divided among the OpenMP threads.
- `builtin`: code as a builtin function of Python that reads arrays and tensors itself.
"""
