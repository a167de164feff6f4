"""Native code at run time through LLVM (llvmlite)."""
