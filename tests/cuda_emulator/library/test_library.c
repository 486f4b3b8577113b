/* A library made by weir_cuda_emulated_library() works when a C program loads it, whichever
   compiler and sanitizer made that. The argument is the library. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "tests/cuda_emulator/cu_emulator.h"
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the library has. Functions are read through memory: C does not convert object pointers. */
struct library {
    void *handle;
    void (*set_schedule)(enum cu_emu_schedule schedule, uint64_t seed);
    const char *(*message)(void);
    int (*sum)(const float *x, int n, float *sum);
    int (*off_by_one)(int beyond);
};

static void find(void *handle, const char *name, void *function, size_t size) {
    void *symbol = dlsym(handle, name);
    if (!symbol) fail_msg("%s is missing", name);
    memcpy(function, &symbol, size);
}

static int load(void **state) {
    struct library *library = *state;
    find(library->handle, "cu_emu_set_schedule", &library->set_schedule, sizeof(void *));
    find(library->handle, "cu_emu_message", &library->message, sizeof(void *));
    find(library->handle, "emulated_sum", &library->sum, sizeof(void *));
    find(library->handle, "emulated_off_by_one", &library->off_by_one, sizeof(void *));
    return 0;
}

static void test_sum(void **state) {
    const struct library *library = *state;
    float x[777], sum = 0.0f, wanted = 0.0f;
    for (int i = 0; i < 777; i++)
        wanted += x[i] = (float)(i % 13);
    for (int schedule = CU_EMU_IN_ORDER; schedule <= CU_EMU_RANDOM; schedule++) {
        library->set_schedule((enum cu_emu_schedule)schedule, 5);
        assert_int_equal(library->sum(x, 777, &sum), 0);
        assert_true(fabsf(sum - wanted) < 1e-3f);
        assert_string_equal(library->message(), "");
    }
}

/* The child's exit code: 0 when nothing was found. */
static int run_child(const struct library *library, int beyond) {
    fflush(NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr)) _exit(9);
        _exit(library->off_by_one(beyond) ? 3 : 0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static void test_off_by_one(void **state) {
    const struct library *library = *state;
    assert_int_equal(run_child(library, 0), 0);
    assert_int_not_equal(run_child(library, 1), 0);
}

int main(int argc, char **argv) {
    struct library library = {0};
    if (argc == 2) library.handle = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (!library.handle) {
        fprintf(stderr, "%s\n", argc == 2 ? dlerror() : "usage: test_emulated_library LIBRARY");
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_sum, &library),
        cmocka_unit_test_prestate(test_off_by_one, &library),
    };
    void *state = &library;
    load(&state);
    return cmocka_run_group_tests_name("emulated_library", tests, NULL, NULL);
}
