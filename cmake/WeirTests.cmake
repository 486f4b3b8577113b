# Each tests/test_NAME.c is a cmocka program and a ctest of its own; tests/helpers/*.c serve all.
# Each tests/cli/NAME.sh is a ctest that drives the program. tests/browser drives its pages in
# Chromium. Labels: cpu, gpu, browser, style.
pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka)

# Seven threads on two processors must not wait for each other in busy loops.
set(WEIR_TEST_ENVIRONMENT "OMP_WAIT_POLICY=passive")
if(WEIR_SANITIZE)
  set(suppressions ${CMAKE_SOURCE_DIR}/cmake)
  list(APPEND WEIR_TEST_ENVIRONMENT
    "LSAN_OPTIONS=suppressions=${suppressions}/lsan.supp:print_suppressions=0"
    "UBSAN_OPTIONS=print_stacktrace=1"
    "TSAN_OPTIONS=suppressions=${suppressions}/tsan.supp:ignore_noninstrumented_modules=1"
    "ASAN_OPTIONS=detect_stack_use_after_return=1:allocator_may_return_null=1")
endif()

function(weir_add_test name label timeout)
  add_test(NAME ${name} COMMAND ${ARGN})
  set_tests_properties(${name} PROPERTIES LABELS ${label} TIMEOUT ${timeout}
    ENVIRONMENT "${WEIR_TEST_ENVIRONMENT}")
endfunction()

# tests/test_cuda_*.c run the CUDA device on the emulator, where clang++ is; they skip without it.
include(WeirEmulator)
if(WEIR_CUDA_EMULATOR)
  weir_add_emulated_cuda()
endif()

file(GLOB helpers CONFIGURE_DEPENDS tests/helpers/*.c)
file(GLOB tests CONFIGURE_DEPENDS tests/test_*.c)
foreach(source ${tests})
  get_filename_component(name ${source} NAME_WE)
  add_executable(${name} ${source} ${helpers})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/tests)
  target_link_libraries(${name} PRIVATE weir_cli weir weir_flags PkgConfig::CMOCKA
    PkgConfig::CJSON OpenMP::OpenMP_C)
  target_compile_definitions(${name} PRIVATE WEIR_SOURCE_DIR="${CMAKE_SOURCE_DIR}"
    WEIR_BINARY_DIR="${CMAKE_BINARY_DIR}")
  # tests/helpers/alloc.c lets a test fail the n-th allocation and see what is not freed.
  if(EXISTS ${CMAKE_SOURCE_DIR}/tests/helpers/alloc.c)
    target_link_options(${name} PRIVATE
      -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=aligned_alloc,--wrap=free)
  endif()
  weir_add_test(${name} cpu 600 ${name})
  if(WEIR_CUDA_EMULATOR AND name MATCHES "^test_cuda_")
    add_dependencies(${name} weir_cuda_emulated)
    set_property(TEST ${name} APPEND PROPERTY ENVIRONMENT
      "WEIR_CUDA_LIBRARY=$<TARGET_FILE:weir_cuda_emulated>")
  endif()
  # The same on a GPU; where there is none, they skip.
  if(WEIR_HAVE_CUDA AND name MATCHES "^test_cuda_")
    weir_add_test(gpu_${name} gpu 600 ${name})
    add_dependencies(${name} weir_cuda)
    set_property(TEST gpu_${name} APPEND PROPERTY ENVIRONMENT
      "WEIR_CUDA_LIBRARY=$<TARGET_FILE:weir_cuda>")
  endif()
endforeach()

file(GLOB scripts CONFIGURE_DEPENDS tests/cli/*.sh)
foreach(script ${scripts})
  get_filename_component(name ${script} NAME_WE)
  weir_add_test(cli_${name} cpu 600 bash ${script} $<TARGET_FILE:weir_program>
    ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
endforeach()
# On the emulated device, and on a GPU where there is one.
set_tests_properties(cli_cuda PROPERTIES SKIP_RETURN_CODE 77)
if(WEIR_CUDA_EMULATOR)
  set_property(TEST cli_cuda APPEND PROPERTY ENVIRONMENT
    "WEIR_CUDA_LIBRARY=$<TARGET_FILE:weir_cuda_emulated>")
endif()
if(WEIR_HAVE_CUDA)
  weir_add_test(gpu_cli_cuda gpu 600 bash ${CMAKE_SOURCE_DIR}/tests/cli/cuda.sh
    $<TARGET_FILE:weir_program> ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
  set_tests_properties(gpu_cli_cuda PROPERTIES SKIP_RETURN_CODE 77)
  set_property(TEST gpu_cli_cuda APPEND PROPERTY ENVIRONMENT
    "WEIR_CUDA_LIBRARY=$<TARGET_FILE:weir_cuda>")
endif()

# Skipped without Chromium, unless WEIR_NEED_BROWSER=1 (scripts/test) makes that a failure. What is
# tested runs in the browser, so that sanitizers add nothing.
if(NOT WEIR_SANITIZE)
  file(GLOB browser_sources CONFIGURE_DEPENDS tests/browser/*.c)
  add_executable(test_pages ${browser_sources})
  target_include_directories(test_pages PRIVATE ${CMAKE_SOURCE_DIR}/tests)
  target_link_libraries(test_pages PRIVATE weir weir_flags PkgConfig::CMOCKA PkgConfig::CJSON)
  target_compile_definitions(test_pages PRIVATE WEIR_PROGRAM="$<TARGET_FILE:weir_program>"
    WEIR_SOURCE_DIR="${CMAKE_SOURCE_DIR}" WEIR_BINARY_DIR="${CMAKE_BINARY_DIR}")
  add_dependencies(test_pages weir_program)
  weir_add_test(browser_pages browser 900 test_pages)
  set_tests_properties(browser_pages PROPERTIES SKIP_RETURN_CODE 77)
endif()

weir_add_emulator_tests()

weir_add_test(lengths style 60 bash ${CMAKE_SOURCE_DIR}/tests/check_lengths.sh
  ${CMAKE_SOURCE_DIR})
weir_add_test(format style 120 bash ${CMAKE_SOURCE_DIR}/tests/check_format.sh ${CMAKE_SOURCE_DIR})
set_tests_properties(format PROPERTIES SKIP_RETURN_CODE 77)
