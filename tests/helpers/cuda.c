/* cuda.c: see cuda.h. */
#include "helpers/cuda.h"

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

bool test_cuda_open(test_cuda *t) {
    const char *path = getenv("WEIR_CUDA_LIBRARY");
    void *library = path == NULL ? NULL : dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (path != NULL && library == NULL) { /* it was built, so that it must load */
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    return library != NULL && find(library, "cu_emu_set_schedule", &t->schedule) &&
           find(library, "cu_emu_set_memory", &t->memory) &&
           find(library, "cu_emu_message", &t->message) &&
           find(library, "cu_emu_clear", &t->clear) &&
           find(library, "cu_emu_set_quiet", &t->quiet) &&
           find(library, "cu_emu_counts", &t->counts);
}
