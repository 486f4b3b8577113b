/* doctor.c: `weir doctor`, what this machine offers, what is missing, and what to install. */
#define _GNU_SOURCE
#include "cli/cli.h"
#include "graph/device.h"
#include "graph/trace.h"
#include "viz/draw.h"

#include <dlfcn.h>
#include <link.h>
#include <omp.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cJSON.h>
#include <cblas.h>
#include <lzma.h>
#include <oneapi/dnnl/dnnl.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <utf8proc.h>
#include <yaml.h>
#include <zlib.h>

/* Libraries stay loaded until the end: some do not survive being unloaded. */
enum { PATH_BYTES = 1024, LOAD = RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE };

/* Debian packages to suggest, in the order met. */
typedef struct advice {
    wr_str packages;
    wr_str cuda;
    wr_str rebuild; /* what a build of one's own then has */
} advice;

static void heading(const char *title) { printf("%s\n", title); }
static void row(const char *name, const char *fmt, ...) WR_PRINTF(2, 3);
static void row(const char *name, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    printf("  %-14s ", name);
    vprintf(fmt, args);
    putchar('\n');
    va_end(args);
}

/* ---- processor and threads ---- */

#define CPU_FEATURES(X)                                                                            \
    X("sse4.2")                                                                                    \
    X("avx")                                                                                       \
    X("fma")                                                                                       \
    X("avx2")                                                                                      \
    X("avx512f")                                                                                   \
    X("avx512dq")                                                                                  \
    X("avx512bw")                                                                                  \
    X("avx512vl")                                                                                  \
    X("avx512vnni")                                                                                \
    X("avx512bf16")

static void print_model_name(void) {
    FILE *file = fopen("/proc/cpuinfo", "re");
    if (file == NULL) return;
    char line[256];
    while (fgets(line, sizeof line, file) != NULL) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || colon == NULL) continue;
        line[strcspn(line, "\n")] = '\0';
        row("model", "%s", colon + 2);
        break;
    }
    fclose(file);
}

static void print_processor(void) {
    heading("processor");
    print_model_name();
#if defined(__x86_64__)
    wr_str has = {0}, lacks = {0};
    __builtin_cpu_init();
#define TEST(name) wr_str_add(__builtin_cpu_supports(name) ? &has : &lacks, "%s ", name);
    CPU_FEATURES(TEST)
#undef TEST
    row("has", "%s", wr_str_text(&has));
    if (lacks.len > 0) row("lacks", "%s", wr_str_text(&lacks));
    wr_str_free(&has);
    wr_str_free(&lacks);
#else
    row("features", "not looked at: this is not an x86-64 processor");
#endif
}

/* The cgroup's limit in cores; 0 when there is none. */
static double cgroup_cores(void) {
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (file == NULL) return 0;
    long quota = 0, period = 0;
    int n = fscanf(file, "%ld %ld", &quota, &period);
    fclose(file);
    return n == 2 && period > 0 ? (double)quota / (double)period : 0;
}

static void print_threads(void) {
    heading("threads");
    cpu_set_t allowed;
    int usable = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : 0;
    row("cores", "%ld online, %d usable by this process", sysconf(_SC_NPROCESSORS_ONLN), usable);
    double cores = cgroup_cores();
    if (cores > 0) row("limit", "%.2g cores by the cgroup", cores);
    const char *set = getenv("OMP_NUM_THREADS");
    row("OpenMP", "%d threads (OMP_NUM_THREADS %s)", omp_get_max_threads(),
        set != NULL ? set : "not set");
}

/* ---- libraries that the program is linked with ---- */

typedef struct isa_name {
    dnnl_cpu_isa_t isa;
    const char *name;
} isa_name;

static const char *onednn_kernels(void) {
    static const isa_name NAMES[] = {
        {dnnl_cpu_isa_avx512_core_amx, "AVX-512 with AMX"},
        {dnnl_cpu_isa_avx512_core_bf16, "AVX-512 with bf16"},
        {dnnl_cpu_isa_avx512_core_vnni, "AVX-512 with VNNI"},
        {dnnl_cpu_isa_avx512_core, "AVX-512"},
        {dnnl_cpu_isa_avx2_vnni, "AVX2 with VNNI"},
        {dnnl_cpu_isa_avx2, "AVX2"},
        {dnnl_cpu_isa_avx, "AVX"},
        {dnnl_cpu_isa_sse41, "SSE4.1"},
    };
    dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
    for (size_t i = 0; i < WR_COUNT(NAMES); i++)
        if (NAMES[i].isa == isa) return NAMES[i].name;
    return "others";
}

static const char *parallel_kind(int kind) {
    if (kind == 2) return "OpenMP";
    return kind == 1 ? "threads of its own (install libopenblas0-openmp)" : "one thread";
}

static void print_libraries(void) {
    heading("libraries");
    const dnnl_version_t *dnnl = dnnl_version();
    row("oneDNN", "%d.%d.%d, kernels: %s", dnnl->major, dnnl->minor, dnnl->patch, onednn_kernels());
    row("OpenBLAS", "%s", openblas_get_config());
    row("", "kernels: %s, %s, %d threads", openblas_get_corename(),
        parallel_kind(openblas_get_parallel()), openblas_get_num_threads());
    char pcre2[64] = "";
    pcre2_config(PCRE2_CONFIG_VERSION, pcre2);
    row("SentencePiece", "%s", WEIR_SENTENCEPIECE_VERSION);
    row("libyaml", "%s", yaml_get_version_string());
    row("cJSON", "%s", cJSON_Version());
    row("zlib", "%s", zlibVersion());
    row("liblzma", "%s", lzma_version_string());
    row("PCRE2", "%s", pcre2);
    row("utf8proc", "%s", utf8proc_version());
}

/* ---- searching ---- */

/* Look for an executable in the directories of `path` ("a:b:c"). */
static bool find_in(const char *path, const char *program, char *found) {
    while (path != NULL && *path != '\0') {
        size_t n = strcspn(path, ":");
        snprintf(found, PATH_BYTES, "%.*s/%s", (int)n, path, program);
        if (n > 0 && access(found, X_OK) == 0) return true;
        path += n;
        if (*path == ':') path++;
    }
    return false;
}

/* A program in PATH; a missing one adds `package` to the advice. */
static bool print_program(const char *program, const char *package, advice *advice) {
    char found[PATH_BYTES];
    bool there = find_in(getenv("PATH"), program, found);
    row(program, "%s", there ? found : "missing (looked in PATH)");
    if (!there && package != NULL) wr_str_add(&advice->packages, " %s", package);
    return there;
}

/* Open a library by its name, then in each directory of `folders` (NULL-terminated, may be NULL).
 */
static void *open_library(const char *name, const char *const *folders) {
    void *library = dlopen(name, LOAD);
    for (; library == NULL && folders != NULL && *folders != NULL; folders++) {
        char path[PATH_BYTES];
        snprintf(path, sizeof path, "%s/%s", *folders, name);
        library = dlopen(path, LOAD);
    }
    return library;
}

static const char *library_path(void *library) {
    struct link_map *map = NULL;
    return dlinfo(library, RTLD_DI_LINKMAP, &map) == 0 && map != NULL ? map->l_name : "found";
}

/* Look for the first of `names` (NULL-terminated); prints what it found. */
static bool print_library(const char *label, const char *const *names, const char *const *folders) {
    for (size_t i = 0; names[i] != NULL; i++) {
        void *library = open_library(names[i], folders);
        if (library == NULL) continue;
        row(label, "%s", library_path(library));
        dlclose(library);
        return true;
    }
    wr_str all = {0};
    for (size_t i = 0; names[i] != NULL; i++)
        wr_str_add(&all, "%s%s", i > 0 ? ", " : "", names[i]);
    row(label, "missing (%s)", wr_str_text(&all));
    wr_str_free(&all);
    return false;
}

/* ---- CUDA ---- */

static const char *const CUDA_FOLDERS[] = {"/usr/local/cuda/lib64",
                                           "/usr/local/cuda/targets/x86_64-linux/lib",
                                           "/usr/lib/x86_64-linux-gnu",
                                           "/usr/lib/x86_64-linux-gnu/nvidia/current",
                                           "/usr/lib64",
                                           "/usr/lib/wsl/lib",
                                           "/opt/cuda/lib64",
                                           NULL};

/* dlsym() gives an object pointer; ISO C has no cast from that to a function. */
static void find_function(void *library, const char *name, void *function) {
    void *symbol = dlsym(library, name);
    memcpy(function, &symbol, sizeof symbol);
}

static void print_devices(void *driver) {
    int (*init)(unsigned), (*version)(int *), (*count)(int *), (*name)(char *, int, int);
    int (*total)(size_t *, int);
    find_function(driver, "cuInit", &init);
    find_function(driver, "cuDriverGetVersion", &version);
    find_function(driver, "cuDeviceGetCount", &count);
    find_function(driver, "cuDeviceGetName", &name);
    find_function(driver, "cuDeviceTotalMem_v2", &total);
    if (!init || !version || !count || !name || !total) {
        row("driver", "lacks functions that every driver has");
        return;
    }
    int number = 0, devices = 0;
    int code = init(0);
    if (version(&number) == 0) row("driver", "for CUDA %d.%d", number / 1000, number % 1000 / 10);
    if (code != 0 || count(&devices) != 0) {
        row("devices", "the driver does not start (cuInit gives %d)", code);
        return;
    }
    if (devices == 0) row("devices", "none");
    for (int i = 0; i < devices; i++) {
        char text[256] = "";
        size_t bytes = 0;
        if (name(text, sizeof text, i) == 0 && total(&bytes, i) == 0)
            row("device", "%d: %s, %.1f GiB", i, text, (double)bytes / (1 << 30));
    }
}

static bool print_driver(void) {
    static const char *const NAMES[] = {"libcuda.so.1", NULL};
    bool node = access("/dev/nvidiactl", F_OK) == 0 || access("/dev/dxg", F_OK) == 0;
    row("device file", "%s", node ? "found" : "missing (/dev/nvidiactl, /dev/dxg)");
    if (!print_library("driver", NAMES, CUDA_FOLDERS)) return false;
    void *driver = open_library(NAMES[0], CUDA_FOLDERS);
    if (driver == NULL) return false;
    print_devices(driver);
    dlclose(driver);
    return true;
}

/* nvcc: in CUDA_HOME, CUDA_PATH, PATH and the usual places. */
static bool print_toolkit(void) {
    static const char USUAL[] =
        "/usr/local/cuda/bin:/opt/cuda/bin:/usr/lib/nvidia-cuda-toolkit/bin";
    static const char *const VARIABLES[] = {"CUDA_HOME", "CUDA_PATH"};
    char found[PATH_BYTES], folder[PATH_BYTES];
    bool there = false;
    for (size_t i = 0; i < WR_COUNT(VARIABLES) && !there; i++) {
        const char *home = getenv(VARIABLES[i]);
        if (home == NULL) continue;
        snprintf(folder, sizeof folder, "%s/bin", home);
        there = find_in(folder, "nvcc", found);
    }
    if (!there) there = find_in(getenv("PATH"), "nvcc", found) || find_in(USUAL, "nvcc", found);
    if (there)
        row("nvcc", "%s", found);
    else
        row("nvcc", "missing (looked in CUDA_HOME, CUDA_PATH, PATH, %s)", USUAL);
    return there;
}

/* Weir's own library, and the device through it. */
static void print_device(void) {
    wr_str places = {0}, found = {0}, device = {0};
    wr_error err = {0};
    wr_device *d = NULL;
    wr_device_places(&places, &found);
    row("libweir_cuda", "%s", found.len > 0 ? wr_str_text(&found) : "not beside the program");
    row("looked in", "%s", wr_str_text(&places));
    if (wr_device_open(&(wr_device_options){.name = "cuda"}, &d, NULL, &err) == WR_OK) {
        d->describe(d, &device);
        row("--device cuda", "works: %s", wr_str_text(&device));
        d->close(d);
    } else {
        row("--device cuda", "%.*s", (int)strcspn(err.text, "\n"), err.text);
    }
    wr_str_free(&places);
    wr_str_free(&found);
    wr_str_free(&device);
}

static void print_cuda(advice *advice) {
    static const char *const CUDART[] = {"libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0",
                                         NULL};
    static const char *const CUBLAS[] = {"libcublas.so.13", "libcublas.so.12", "libcublas.so.11",
                                         NULL};
    static const char *const CUBLASLT[] = {"libcublasLt.so.13", "libcublasLt.so.12",
                                           "libcublasLt.so.11", NULL};
    static const char *const CUDNN[] = {"libcudnn.so.9", "libcudnn.so.8", NULL};
    heading("CUDA (optional)");
    print_device();
    bool driver = print_driver();
    bool toolkit = print_toolkit();
    bool missing = false;
    missing |= !print_library("cudart", CUDART, CUDA_FOLDERS);
    missing |= !print_library("cuBLAS", CUBLAS, CUDA_FOLDERS);
    missing |= !print_library("cuBLASLt", CUBLASLT, CUDA_FOLDERS);
    missing |= !print_library("cuDNN", CUDNN, CUDA_FOLDERS);
    if (missing || !driver) {
        wr_str looked = {0};
        for (size_t i = 0; CUDA_FOLDERS[i] != NULL; i++)
            wr_str_add(&looked, "%s ", CUDA_FOLDERS[i]);
        const char *own = getenv("LD_LIBRARY_PATH");
        row("looked in", "LD_LIBRARY_PATH (%s), ld.so.cache, %s", own != NULL ? own : "not set",
            wr_str_text(&looked));
        wr_str_free(&looked);
    }
    if (!driver)
        wr_str_add(&advice->cuda, "  an NVIDIA driver, if this machine has an NVIDIA GPU\n");
    if (driver && (!toolkit || missing))
        wr_str_add(&advice->cuda, "  the CUDA toolkit with cuBLAS, and cuDNN, from "
                                  "https://developer.nvidia.com/cuda-downloads\n");
}

/* ---- tools ---- */

static void print_tools(advice *advice) {
    heading("tools to build and check");
    print_program("gcc", "gcc", advice);
    print_program("g++", "g++", advice);
    print_program("clang", "clang", advice);
    print_program("cmake", "cmake", advice);
    print_program("ninja", "ninja-build", advice);
    print_program("valgrind", "valgrind", advice);
    print_program("ctags", "universal-ctags", advice);
    print_program("clang-tidy", "clang-tidy", advice);
}

static void print_drawing(advice *advice) {
    static const char *const GVC[] = {"libgvc.so.6", NULL};
    heading("drawing (optional)");
    print_program("dot", "graphviz", advice);
    if (!print_library("Graphviz", GVC, NULL)) wr_str_add(&advice->packages, " libgraphviz-dev");
    bool built = wr_draw_has_layout();
    row("built in", "%s",
        built ? "yes: weir draw writes dot, svg, png, pdf and html"
              : "no: weir draw writes dot and html only");
    if (!built) wr_str_add(&advice->rebuild, "  after installing libgraphviz-dev: pictures\n");
}

/* A stack of our own, as messages print it; and what that needs. */
static void print_own_trace(advice *advice) {
    if (!wr_trace_available()) {
        row("built in", "no: messages name lines, but not the chain of callers");
        wr_str_add(&advice->rebuild,
                   "  after installing libunwind-14-dev and libdw-dev: chains of callers\n");
        return;
    }
    uintptr_t pc[WR_TRACE_FRAMES];
    int n = wr_trace_here(pc, WR_TRACE_FRAMES);
    wr_str text = {0};
    wr_trace_print(n, pc, &text);
    bool lines = strstr(wr_str_text(&text), "cli/doctor.c:") != NULL;
    row("built in", "yes");
    row("own stack", "%s", text.len > 0 ? wr_str_text(&text) : "cannot be read");
    if (text.len > 0 && !lines)
        row("", "functions, but no lines: the program was stripped of them");
    row("works", "%s", n > 0 && text.len > 0 ? "yes" : "no");
    row("ptrace", "not needed: a process reads its own stack, and its files' line tables");
    wr_str_free(&text);
}

static void print_unwinder(advice *advice) {
    static const char *const LLVM[] = {"libunwind.so.1", NULL};
    static const char *const DW[] = {"libdw.so.1", NULL};
    heading("stack traces (optional)");
    if (!print_library("libunwind", LLVM, NULL)) wr_str_add(&advice->packages, " libunwind-14-dev");
    if (!print_library("libdw", DW, NULL)) wr_str_add(&advice->packages, " libdw-dev");
    print_own_trace(advice);
}

static void print_program_itself(void) {
    heading("weir");
    row("version", "%s", WEIR_VERSION);
#if defined(__clang__)
    row("compiler", "%s", __VERSION__);
#else
    row("compiler", "GCC %s", __VERSION__);
#endif
    row("built for", "%s", WEIR_BUILT_FOR);
}

static void print_advice(const advice *advice) {
    heading("what to install");
    if (advice->packages.len > 0) printf("  apt-get install%s\n", wr_str_text(&advice->packages));
    fputs(wr_str_text(&advice->cuda), stdout);
    if (advice->packages.len == 0 && advice->cuda.len == 0 && advice->rebuild.len == 0)
        printf("  nothing\n");
    if (advice->rebuild.len == 0) return;
    heading("what to build again (cmake -B build && ninja -C build)");
    fputs(wr_str_text(&advice->rebuild), stdout);
}

int wr_cmd_doctor(int argc, char **argv) {
    const wr_cli cli = {.command = "doctor",
                        .summary = "Tells what this machine offers, what is missing and where it "
                                   "was looked for, and what to install."};
    int code = wr_cli_begin(&cli, argc, argv);
    if (code >= 0) return code;
    advice advice = {0};
    print_program_itself();
    print_processor();
    print_threads();
    print_libraries();
    print_cuda(&advice);
    print_drawing(&advice);
    print_unwinder(&advice);
    print_tools(&advice);
    print_advice(&advice);
    wr_str_free(&advice.packages);
    wr_str_free(&advice.cuda);
    wr_str_free(&advice.rebuild);
    return wr_cli_end(WR_OK, NULL);
}
