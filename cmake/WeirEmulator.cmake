# The emulator of CUDA (docs/cuda_emulator.md): .cu files compiled by clang++ for the processor.
# WEIR_CUDA_EMULATOR tells whether clang++ was found; only then there are these functions:
#   weir_cuda_emulated_library(NAME SOURCES...): a shared library of the sources and the emulator.
#   weir_cuda_emulated_program(NAME SANITIZER SOURCES...): a program, linked by clang++ as well, so
#     that a build without sanitizers can have one with them; SANITIZER: none, address or thread.
# In any case there is weir_add_emulator_tests().
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  set(WEIR_EMULATOR_CXX ${CMAKE_CXX_COMPILER})
else()
  find_program(WEIR_EMULATOR_CXX NAMES clang++ clang++-19 clang++-18 clang++-17 clang++-16
    clang++-15 clang++-14 DOC "clang++, which compiles .cu files for the emulator of CUDA")
endif()
set(WEIR_CUDA_EMULATOR OFF)
if(NOT WEIR_EMULATOR_CXX)
  function(weir_add_emulator_tests)
    weir_add_test(cuda_emulator cpu 10 bash -c
      "echo 'clang++ is missing: it compiles CUDA kernels for the emulator (apt-get install clang)'; exit 77")
    set_tests_properties(cuda_emulator PROPERTIES SKIP_RETURN_CODE 77)
  endfunction()
  return()
endif()
set(WEIR_CUDA_EMULATOR ON)

set(WEIR_EMULATOR_SOURCE ${CMAKE_SOURCE_DIR}/tests/cuda_emulator)
set(WEIR_EMULATOR_FLAGS -std=c++17 -g -fPIC -Wall -Wextra -Werror -fno-math-errno
  -fmacro-prefix-map=${CMAKE_SOURCE_DIR}/= -I${WEIR_EMULATOR_SOURCE}/include
  -I${WEIR_EMULATOR_SOURCE} -I${CMAKE_SOURCE_DIR} -I${CMAKE_BINARY_DIR}/include)
if(CMAKE_BUILD_TYPE STREQUAL "Debug")
  list(APPEND WEIR_EMULATOR_FLAGS -O1)
else()
  list(APPEND WEIR_EMULATOR_FLAGS -O2)
endif()
if(WEIR_NATIVE)
  list(APPEND WEIR_EMULATOR_FLAGS -march=native)
elseif(WEIR_ARCH)
  list(APPEND WEIR_EMULATOR_FLAGS -march=${WEIR_ARCH})
endif()

# What finds faults in kernels. Without AddressSanitizer the emulator itself reports what
# UndefinedBehaviorSanitizer finds (undefined.cc), with place, thread and block.
set(WEIR_EMULATOR_UNDEFINED -fsanitize=alignment,array-bounds,bool,enum,integer-divide-by-zero,null
  -fsanitize=return,shift,signed-integer-overflow,unreachable,vla-bound
  -fno-sanitize-recover=all)
# Whether clang++ has the runtime of a sanitizer; a distribution packs it apart from the compiler.
function(weir_emulator_find_runtime sanitizer)
  if(DEFINED WEIR_EMULATOR_HAS_${sanitizer})
    return()
  endif()
  set(source ${CMAKE_BINARY_DIR}/emulated/empty.cc)
  file(WRITE ${source} "int main() { return 0; }\n")
  execute_process(COMMAND ${WEIR_EMULATOR_CXX} -fsanitize=${sanitizer} ${source} -o ${source}.out
    RESULT_VARIABLE result OUTPUT_QUIET ERROR_QUIET)
  if(result EQUAL 0)
    set(has ON)
  else()
    set(has OFF)
  endif()
  set(WEIR_EMULATOR_HAS_${sanitizer} ${has} CACHE INTERNAL "clang++ has its runtime")
endfunction()

set(WEIR_EMULATOR_none)
set(WEIR_EMULATOR_address -fsanitize=address -fno-omit-frame-pointer)
set(WEIR_EMULATOR_thread -fsanitize=thread -fno-omit-frame-pointer)
if(WEIR_SANITIZE)
  set(WEIR_EMULATOR_SANITIZER ${WEIR_SANITIZE})
else()
  set(WEIR_EMULATOR_SANITIZER none)
endif()

# Compiles sources under a name, with flags; sets the variable to the objects.
function(weir_emulator_objects variable name flags)
  set(objects)
  foreach(source ${ARGN})
    get_filename_component(source ${source} ABSOLUTE BASE_DIR ${CMAKE_SOURCE_DIR})
    file(RELATIVE_PATH relative ${CMAKE_SOURCE_DIR} ${source})
    set(object ${CMAKE_BINARY_DIR}/emulated/${name}/${relative}.o)
    get_filename_component(folder ${object} DIRECTORY)
    file(MAKE_DIRECTORY ${folder})
    add_custom_command(OUTPUT ${object}
      COMMAND ${CMAKE_CXX_COMPILER_LAUNCHER} ${WEIR_EMULATOR_CXX} ${WEIR_EMULATOR_FLAGS} ${flags}
        -MD -MF ${object}.d -MT ${object} -x c++ -c ${source} -o ${object}
      DEPENDS ${source} DEPFILE ${object}.d VERBATIM
      COMMENT "Compiling ${relative} for the emulator (${name})")
    list(APPEND objects ${object})
  endforeach()
  set(${variable} ${objects} PARENT_SCOPE)
endfunction()

# The emulator itself: never instrumented, so that sanitizers see the kernels' accesses alone.
# shared.cc is the last one of a link: its page ends the section of shared memory.
file(GLOB emulator_sources CONFIGURE_DEPENDS ${WEIR_EMULATOR_SOURCE}/*.cc)
list(REMOVE_ITEM emulator_sources ${WEIR_EMULATOR_SOURCE}/shared.cc)
weir_emulator_objects(WEIR_EMULATOR_OBJECTS emulator "" ${emulator_sources}
  ${WEIR_EMULATOR_SOURCE}/shared.cc)
add_custom_target(weir_emulator_objects DEPENDS ${WEIR_EMULATOR_OBJECTS})

function(weir_cuda_emulated_library name)
  set(compiled ${ARGN})
  set(others ${ARGN})
  list(FILTER compiled INCLUDE REGEX "\\.(cu|cc|cpp)$")
  list(FILTER others EXCLUDE REGEX "\\.(cu|cc|cpp)$")
  weir_emulator_objects(objects ${name}
    "${WEIR_EMULATOR_${WEIR_EMULATOR_SANITIZER}};${WEIR_EMULATOR_UNDEFINED}" ${compiled})
  set_source_files_properties(${objects} ${WEIR_EMULATOR_OBJECTS} PROPERTIES EXTERNAL_OBJECT ON)
  add_library(${name} SHARED ${others} ${objects} ${WEIR_EMULATOR_OBJECTS})
  # The emulator's objects are made once, whatever links them.
  add_dependencies(${name} weir_emulator_objects)
  set_target_properties(${name} PROPERTIES LINKER_LANGUAGE CXX)
  target_link_options(${name} PRIVATE -Wl,-Bsymbolic)
  if(NOT WEIR_SANITIZE) # whose functions the program brings
    target_link_options(${name} PRIVATE -Wl,--no-undefined)
  endif()
  target_link_libraries(${name} PRIVATE pthread m)
endfunction()

function(weir_cuda_emulated_program name sanitizer)
  set(flags ${WEIR_EMULATOR_${sanitizer}})
  weir_emulator_objects(objects ${name} "${flags};${WEIR_EMULATOR_UNDEFINED}" ${ARGN})
  set(program ${CMAKE_BINARY_DIR}/${name})
  add_custom_command(OUTPUT ${program}
    COMMAND ${WEIR_EMULATOR_CXX} ${flags} ${objects} ${WEIR_EMULATOR_OBJECTS} -o ${program}
      -lcmocka -lpthread -lm
    DEPENDS ${objects} ${WEIR_EMULATOR_OBJECTS} VERBATIM COMMENT "Linking ${name}")
  add_custom_target(${name}_program ALL DEPENDS ${program})
  add_dependencies(${name}_program weir_emulator_objects)
endfunction()

# The emulator's own tests, for each sanitizer that this build can have, and a library that C loads.
function(weir_add_emulator_tests)
  set(sanitizers ${WEIR_EMULATOR_SANITIZER})
  if(NOT WEIR_SANITIZE)
    list(APPEND sanitizers address thread)
  endif()
  set(folder ${WEIR_EMULATOR_SOURCE})
  file(GLOB sources CONFIGURE_DEPENDS ${folder}/tests/*.cc ${folder}/tests/*.cu)
  foreach(sanitizer ${sanitizers})
    set(name cuda_emulator)
    if(NOT sanitizer STREQUAL WEIR_EMULATOR_SANITIZER)
      string(APPEND name _${sanitizer})
    endif()
    set(WEIR_EMULATOR_HAS_none ON)
    if(NOT sanitizer STREQUAL none)
      weir_emulator_find_runtime(${sanitizer})
    endif()
    if(WEIR_EMULATOR_HAS_${sanitizer})
      weir_cuda_emulated_program(test_${name} ${sanitizer} ${sources})
      weir_add_test(${name} cpu 300 ${CMAKE_BINARY_DIR}/test_${name})
      # clang's before version 18 cannot start where the kernel places mappings too freely.
      set_tests_properties(${name} PROPERTIES SKIP_REGULAR_EXPRESSION
        "ThreadSanitizer: unexpected memory mapping")
    else()
      weir_add_test(${name} cpu 10 bash -c
        "echo 'clang++ has no ${sanitizer} sanitizer (apt-get install libclang-rt-14-dev)'; exit 77")
      set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77)
    endif()
  endforeach()
  weir_cuda_emulated_library(emulated_kernels ${folder}/library/library.cu
    ${folder}/tests/kernels.cu ${folder}/tests/faults.cu)
  add_executable(test_emulated_library ${folder}/library/test_library.c)
  target_link_libraries(test_emulated_library PRIVATE weir_flags PkgConfig::CMOCKA
    ${CMAKE_DL_LIBS} m)
  target_include_directories(test_emulated_library PRIVATE ${CMAKE_SOURCE_DIR})
  weir_add_test(cuda_emulated_library cpu 60 test_emulated_library
    $<TARGET_FILE:emulated_kernels>)
endfunction()
