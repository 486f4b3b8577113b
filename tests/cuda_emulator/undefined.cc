/* What UndefinedBehaviorSanitizer calls when kernels do what C++ and the device leave undefined:
   misaligned vector loads, indices outside an array, overflowing signed integers. The checks are
   compiled into kernels in every build; without a sanitizer's runtime these handlers end the launch
   with the place, the thread and the block. A sanitizer's own handlers go before these weak ones.
   The layouts are those that clang has used since version 5. */
#include "block.h"

namespace {

struct Place {
    const char *file;
    uint32_t line, column;
};

struct Type {
    uint16_t kind, info;
    char name[1]; /* goes on, in quotes */
};

struct TypeMismatch {
    Place place;
    const Type *type;
    unsigned char log_alignment, kind;
};

struct OutOfBounds {
    Place place;
    const Type *array, *index;
};

[[noreturn]] void report(const Place &place, const char *what) {
    if (cu_emu::block.current) {
        cu_emu::fail_block("thread %u: %s (%s:%u)", cu_emu::block.current->index, what, place.file,
                           place.line);
        cu_emu::stop_thread();
    }
    fprintf(stderr, "%s:%u: %s\n", place.file, place.line, what);
    abort();
}

} // namespace

#define CU_EMU_HANDLER extern "C" __attribute__((weak)) void

CU_EMU_HANDLER __ubsan_handle_type_mismatch_v1_abort(TypeMismatch *at, void *pointer) {
    const unsigned long alignment = 1ul << at->log_alignment;
    char text[256];
    if (!pointer)
        snprintf(text, sizeof text, "null pointer to %s", at->type->name);
    else
        snprintf(text, sizeof text, "misaligned address %p for %s, which needs a multiple of %lu",
                 pointer, at->type->name, alignment);
    report(at->place, text);
}

CU_EMU_HANDLER __ubsan_handle_out_of_bounds_abort(OutOfBounds *at, void *index) {
    char text[256];
    snprintf(text, sizeof text, "index %ld out of bounds for type %s",
             reinterpret_cast<long>(index), at->array->name);
    report(at->place, text);
}

#define CU_EMU_SIMPLE(name, what)                                                                  \
    CU_EMU_HANDLER __ubsan_handle_##name##_abort(Place *at) { report(*at, what); }

CU_EMU_SIMPLE(add_overflow, "signed integer overflow in a sum")
CU_EMU_SIMPLE(sub_overflow, "signed integer overflow in a difference")
CU_EMU_SIMPLE(mul_overflow, "signed integer overflow in a product")
CU_EMU_SIMPLE(negate_overflow, "signed integer overflow in a negation")
CU_EMU_SIMPLE(divrem_overflow, "division by zero, or signed integer overflow in a quotient")
CU_EMU_SIMPLE(shift_out_of_bounds, "a shift by too many bits, or of a negative number")
CU_EMU_SIMPLE(load_invalid_value, "a bool or an enum has a value that its type does not have")
CU_EMU_SIMPLE(vla_bound_not_positive, "an array's length is not positive")

/* These two have no other name: they always end. */
extern "C" __attribute__((weak)) void __ubsan_handle_builtin_unreachable(Place *at) {
    report(*at, "a place that cannot be reached");
}
extern "C" __attribute__((weak)) void __ubsan_handle_missing_return(Place *at) {
    report(*at, "the end of a function that returns a value");
}
