/* cuda.c: see cuda.h. */
#include "helpers/cuda.h"

#include "graph/device.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* dlsym() gives an object pointer; ISO C has no cast from that to a function. */
static bool find(void *library, const char *name, void *function) {
    void *symbol = dlsym(library, name);
    memcpy(function, &symbol, sizeof symbol);
    return symbol != NULL;
}

/* ---- a real device has nothing to steer ---- */

static void no_schedule(enum cu_emu_schedule schedule, uint64_t seed) {
    (void)schedule;
    (void)seed;
}
static void no_memory(size_t bytes) { (void)bytes; }
static const char *no_message(void) { return ""; }
static void nothing(void) {}
static void no_quiet(int quiet) { (void)quiet; }
static struct cu_emu_counts no_counts(void) { return (struct cu_emu_counts){0}; }

bool test_cuda_open(test_cuda *t) {
    const char *path = getenv("WEIR_CUDA_LIBRARY");
    void *library = path == NULL ? NULL : dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (path != NULL && library == NULL) { /* it was built, so that it must load */
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    if (library != NULL && find(library, "cu_emu_set_schedule", &t->schedule) &&
        find(library, "cu_emu_set_memory", &t->memory) &&
        find(library, "cu_emu_message", &t->message) && find(library, "cu_emu_clear", &t->clear) &&
        find(library, "cu_emu_set_quiet", &t->quiet) && find(library, "cu_emu_counts", &t->counts))
        return true;
    wr_device *d = NULL;
    *t = (test_cuda){.real = true,
                     .schedule = no_schedule,
                     .memory = no_memory,
                     .message = no_message,
                     .clear = nothing,
                     .quiet = no_quiet,
                     .counts = no_counts};
    if (library == NULL ||
        wr_device_open(&(wr_device_options){.name = "cuda"}, &d, NULL, NULL) != WR_OK)
        return false;
    d->close(d);
    return true;
}
