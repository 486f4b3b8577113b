/* device_load.c: opens devices by name; those in libraries of their own are found and loaded.
 *
 * A library is never unloaded: CUDA's own libraries do not survive that. */
#define _GNU_SOURCE
#include "graph/plan.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef WEIR_LIBDIR /* the build tells where the installation has its libraries */
#define WEIR_LIBDIR "lib"
#endif

enum { PATH_BYTES = 4096 };

static const char LIBRARY[] = "libweir_cuda.so";
static const char VARIABLE[] = "WEIR_CUDA_LIBRARY";

bool wr_precision_find(const char *name, wr_precision *precision) {
    static const char *const NAMES[] = {
        [WR_PRECISION_F32] = "f32", [WR_PRECISION_TF32] = "tf32", [WR_PRECISION_BF16] = "bf16"};
    for (int i = 0; i <= WR_PRECISION_BF16; i++)
        if (strcmp(NAMES[i], name) == 0) {
            *precision = (wr_precision)i;
            return true;
        }
    return false;
}

/* A place where the library may be. */
typedef struct place {
    char path[PATH_BYTES];
    const char *what;
} place;

enum { MOST_PLACES = 4 };

/* The folder of the running program with a slash; false when the system does not tell. */
static bool program_folder(char *folder) {
    ssize_t n = readlink("/proc/self/exe", folder, PATH_BYTES - 1);
    if (n <= 0) return false;
    folder[n] = '\0';
    char *slash = strrchr(folder, '/');
    if (slash == NULL) return false;
    slash[1] = '\0';
    return true;
}

static void put_place(place *p, int *n, const char *folder, const char *below, const char *what) {
    int length = snprintf(p[*n].path, PATH_BYTES, "%s%s%s", folder, below, LIBRARY);
    p[*n].what = what;
    if (length > 0 && length < PATH_BYTES) (*n)++;
}

/* Files to try, in order; the loader's path comes behind them. */
static int list_places(place *p) {
    int n = 0;
    char folder[PATH_BYTES];
    const char *given = getenv(VARIABLE);
    if (given != NULL && *given != '\0') {
        snprintf(p[n].path, PATH_BYTES, "%s", given);
        p[n++].what = VARIABLE;
        return n; /* what the user names is taken or refused, never replaced */
    }
    if (!program_folder(folder)) return 0;
    put_place(p, &n, folder, "", "beside the program");
    put_place(p, &n, folder, "../" WEIR_LIBDIR "/", "the installation's libraries");
    return n;
}

void wr_device_places(wr_str *places, wr_str *found) {
    place *p = malloc(sizeof *p * MOST_PLACES);
    if (p == NULL) return;
    int n = list_places(p);
    bool named = n > 0 && strcmp(p[0].what, VARIABLE) == 0, seen = false;
    if (!named) wr_str_add(places, "%s (not set), ", VARIABLE);
    for (int i = 0; i < n; i++) {
        wr_str_add(places, "%s%s (%s)", i > 0 ? ", " : "", p[i].path, p[i].what);
        if (!seen && found != NULL && access(p[i].path, R_OK) == 0) {
            wr_str_add(found, "%s", p[i].path);
            seen = true;
        }
    }
    if (!named) wr_str_add(places, "%sthe loader's path (%s)", n > 0 ? ", " : "", LIBRARY);
    free(p);
}

/* The first library that loads; NULL with the loader's words about the first file that is there. */
static void *load(wr_str *why) {
    place *p = malloc(sizeof *p * MOST_PLACES);
    void *library = NULL;
    const int flags = RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE;
    if (p == NULL) return NULL;
    int n = list_places(p);
    bool named = n > 0 && strcmp(p[0].what, VARIABLE) == 0;
    for (int i = 0; i < n && library == NULL && why->len == 0; i++) {
        if (access(p[i].path, R_OK) != 0) continue;
        library = dlopen(p[i].path, flags);
        if (library == NULL) wr_str_add(why, "%s", dlerror());
    }
    if (library == NULL && why->len == 0 && !named) {
        library = dlopen(LIBRARY, flags);
        const char *said = library == NULL ? dlerror() : NULL;
        /* "libweir_cuda.so: cannot open .." only says that it is not there */
        if (said != NULL && strncmp(said, LIBRARY, sizeof LIBRARY - 1) != 0)
            wr_str_add(why, "%s", said);
    }
    free(p);
    return library;
}

static wr_status not_loaded(const wr_str *why, wr_error *err) {
    wr_str places = {0};
    wr_device_places(&places, NULL);
    if (why->len > 0)
        wr_fail(err, WR_ERR_INPUT,
                "device cuda: its library does not load: %s\n"
                "  hint: cuBLAS of the CUDA toolkit it was built with is needed (libcublasLt); put "
                "its folder into LD_LIBRARY_PATH, or use --device cpu; weir doctor tells more",
                wr_str_text(why));
    else
        wr_fail(err, WR_ERR_INPUT,
                "device cuda: %s was not found\n  looked in: %s\n"
                "  hint: build Weir where nvcc of the CUDA toolkit is installed (-DWEIR_CUDA=ON "
                "tells what is missing there), or use --device cpu; weir doctor tells more",
                LIBRARY, wr_str_text(&places));
    wr_str_free(&places);
    return WR_ERR_INPUT;
}

static wr_status open_cuda(const wr_device_options *o, wr_device **device, wr_error *err) {
    const wr_device_services services = {.abi = WR_DEVICE_ABI,
                                         .bytes_of_plan = sizeof(wr_plan),
                                         .bytes_of_step = sizeof(wr_step),
                                         .bytes_of_call = sizeof(wr_call),
                                         .bytes_of_device = sizeof(wr_device),
                                         .bytes_of_op = sizeof(wr_op),
                                         .fail = wr_fail,
                                         .step_failed = wr__step_failed,
                                         .node_at = wr_node_at,
                                         .str_add = wr_str_add};
    wr_str why = {0};
    void *library = load(&why);
    wr_status status = library == NULL ? not_loaded(&why, err) : WR_OK;
    wr_str_free(&why);
    if (status != WR_OK) return status;
    /* dlsym() gives an object pointer; ISO C has no cast from that to a function */
    wr_device_entry entry;
    void *symbol = dlsym(library, WR_DEVICE_ENTRY);
    memcpy(&entry, &symbol, sizeof symbol);
    if (symbol == NULL)
        return wr_fail(err, WR_ERR_LIBRARY,
                       "device cuda: its library has no %s: it belongs to another version of Weir\n"
                       "  hint: install the program and its libraries from one build",
                       WR_DEVICE_ENTRY);
    return entry(&services, o, device, err);
}

static wr_status open_cpu(wr_device **device, wr_error *err) {
    *device = wr_device_cpu();
    return *device != NULL ? WR_OK : wr_fail_memory(err, "a device", sizeof **device);
}

/* Nothing that a driver would open, and no library named: "auto" need not load one, which takes a
 * while, since cuBLAS comes with it. */
static bool is_without_gpu(void) {
    return getenv(VARIABLE) == NULL && access("/dev/nvidiactl", F_OK) != 0 &&
           access("/dev/dxg", F_OK) != 0;
}

/* The first line of a message, which has several. */
static void note_why(const wr_error *err, wr_str *note) {
    if (note == NULL) return;
    wr_str_add(note, "running on the CPU: %.*s", (int)strcspn(err->text, "\n"), err->text);
}

wr_status wr_device_open(const wr_device_options *o, wr_device **device, wr_str *note,
                         wr_error *err) {
    *device = NULL;
    const char *name = o->name == NULL ? "cpu" : o->name;
    bool any = strcmp(name, "auto") == 0;
    if (strcmp(name, "cpu") == 0) return open_cpu(device, err);
    if (strcmp(name, "cuda") == 0) return open_cuda(o, device, err);
    if (!any)
        return wr_fail(err, WR_ERR_INPUT, "device \"%s\": there are cpu, cuda and auto", name);
    if (is_without_gpu()) {
        if (note != NULL)
            wr_str_add(note, "running on the CPU: no NVIDIA GPU (/dev/nvidiactl, /dev/dxg)");
        return open_cpu(device, err);
    }
    wr_error *tried = calloc(1, sizeof *tried);
    if (tried == NULL) return wr_fail_memory(err, "a device", sizeof *tried);
    wr_status status = open_cuda(o, device, tried);
    if (status != WR_OK) {
        note_why(tried, note);
        status = open_cpu(device, err);
    }
    free(tried);
    return status;
}
