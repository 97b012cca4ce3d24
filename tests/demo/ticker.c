/* Says something every second until it is told to stop. */
#include <stdio.h>
#include <unistd.h>

int main(void) {
    for (unsigned n = 1;; n++) {
        printf("tick %u\n", n);
        fflush(stdout);
        sleep(1);
    }
}
