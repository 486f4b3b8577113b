# weir_flags: the warnings, the processor and the sanitizers of our own sources.
add_library(weir_flags INTERFACE)
target_compile_options(weir_flags INTERFACE
  -Wall -Wextra -Werror -fno-math-errno -fno-trapping-math
  -fmacro-prefix-map=${CMAKE_SOURCE_DIR}/=
  $<$<COMPILE_LANGUAGE:C>:-Wconversion -Wno-sign-conversion -Wstrict-prototypes
    -Wmissing-prototypes -Wwrite-strings -Wcast-qual -Wvla>)

# clang warns when it cannot vectorise what `omp simd` asks for, as in every -O1 build.
if(CMAKE_C_COMPILER_ID MATCHES "Clang")
  target_compile_options(weir_flags INTERFACE -Wno-pass-failed)
endif()

set(WEIR_BUILT_FOR "any processor of this kind")
if(WEIR_NATIVE)
  target_compile_options(weir_flags INTERFACE -march=native)
  set(WEIR_BUILT_FOR "the processor that built it (-march=native)")
elseif(WEIR_ARCH)
  target_compile_options(weir_flags INTERFACE -march=${WEIR_ARCH})
  set(WEIR_BUILT_FOR "${WEIR_ARCH}")
endif()

if(WEIR_SANITIZE STREQUAL "address")
  target_compile_options(weir_flags INTERFACE -fsanitize=address,undefined
    -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
elseif(WEIR_SANITIZE STREQUAL "thread")
  target_compile_options(weir_flags INTERFACE -fsanitize=thread -fno-omit-frame-pointer)
  add_link_options(-fsanitize=thread)
elseif(WEIR_SANITIZE)
  message(FATAL_ERROR "WEIR_SANITIZE is '${WEIR_SANITIZE}'; allowed are address and thread")
endif()
