/* Writes lines of 100 bytes, one write(2) each: writer COUNT. Says on standard error how long that took, in ns. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
    long count = argc > 1 ? atol(argv[1]) : 400000;
    char line[100];
    struct timespec begin, end;
    memset(line, 'x', 99);
    line[99] = '\n';
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (long i = 0; i < count; i++)
        if (write(1, line, 100) != 100) return 1;
    clock_gettime(CLOCK_MONOTONIC, &end);
    fprintf(stderr, "%lld\n", (end.tv_sec - begin.tv_sec) * 1000000000LL + end.tv_nsec - begin.tv_nsec);
    return 0;
}
