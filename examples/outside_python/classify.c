/* Reads pictures (binary PGM, 8x8, white ink on black) and prints for each its name, the digit, and all ten scores. */

#include <stdio.h>

#include "digits.h"

static int read_picture(const char* path, float* x) {
    unsigned char pixels[DIGITS_INPUT0_SIZE];
    int width, height, white;
    FILE* file = fopen(path, "rb");
    if (!file) return 0;
    int fine = fscanf(file, "P5 %d %d %d", &width, &height, &white) == 3 && width * height == DIGITS_INPUT0_SIZE;
    fine = fine && fgetc(file) != EOF && fread(pixels, 1, sizeof pixels, file) == sizeof pixels;
    fclose(file);
    for (int i = 0; fine && i < DIGITS_INPUT0_SIZE; i++) x[i] = pixels[i] / 255.0f;
    return fine;
}

int main(int count, char** paths) {
    float x[DIGITS_INPUT0_SIZE], scores[DIGITS_OUTPUT0_SIZE];
    for (int n = 1; n < count; n++) {
        if (!read_picture(paths[n], x)) {
            fprintf(stderr, "%s: not a picture of 8x8 in binary PGM\n", paths[n]);
            return 1;
        }
        if (digits_run(x, scores) != DIGITS_OK) return 2;
        int best = 0;
        for (int i = 1; i < DIGITS_OUTPUT0_SIZE; i++)
            if (scores[i] > scores[best]) best = i;
        printf("%s %d", paths[n], best);
        for (int i = 0; i < DIGITS_OUTPUT0_SIZE; i++) printf(" %.9g", scores[i]);
        printf("\n");
    }
    return 0;
}
