# The CUDA device: libweir_cuda.so, which the program loads when it is asked for. WEIR_CUDA: ON, OFF,
# or AUTO (ON where nvcc and cuBLASLt are; never with sanitizers, which do not know device code).
# nvcc is called by rules of our own: the language CUDA of CMake would make every machine that has no
# toolkit, or an unfinished one, fail or wait at configuration.
set(WEIR_CUDA AUTO CACHE STRING "Build the CUDA device: AUTO, ON or OFF")
set_property(CACHE WEIR_CUDA PROPERTY STRINGS AUTO ON OFF)
set(WEIR_CUDA_ARCHITECTURES "80;90" CACHE STRING
  "Compute capabilities to compile for; PTX of the last one serves later ones")
if(NOT WEIR_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "WEIR_CUDA is '${WEIR_CUDA}'; allowed are AUTO, ON and OFF")
endif()

file(GLOB WEIR_CUDA_SOURCES CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/ops/cuda/*.cu)
set(WEIR_HAVE_CUDA OFF)
if(WEIR_CUDA STREQUAL "ON" OR (WEIR_CUDA STREQUAL "AUTO" AND NOT WEIR_SANITIZE))
  find_program(WEIR_NVCC nvcc HINTS $ENV{CUDA_HOME}/bin $ENV{CUDA_PATH}/bin
    PATHS /usr/local/cuda/bin /opt/cuda/bin DOC "The compiler of the CUDA toolkit")
  if(WEIR_NVCC)
    get_filename_component(nvcc ${WEIR_NVCC} REALPATH)
    get_filename_component(folder ${nvcc} DIRECTORY)
    get_filename_component(folder ${folder} DIRECTORY)
    set(places ${folder} $ENV{CUDA_HOME} $ENV{CUDA_PATH} /usr/local/cuda /opt/cuda)
    set(suffixes lib64 lib targets/x86_64-linux/lib targets/sbsa-linux/lib)
    find_library(WEIR_CUDART cudart_static HINTS ${places} PATH_SUFFIXES ${suffixes})
    find_library(WEIR_CUBLASLT cublasLt HINTS ${places} PATH_SUFFIXES ${suffixes})
  endif()
  if(WEIR_NVCC AND WEIR_CUDART AND WEIR_CUBLASLT)
    set(WEIR_HAVE_CUDA ON)
  elseif(WEIR_CUDA STREQUAL "ON")
    message(FATAL_ERROR "WEIR_CUDA is ON, but the CUDA toolkit is not complete: nvcc "
      "(${WEIR_NVCC}), libcudart_static.a (${WEIR_CUDART}), libcublasLt.so (${WEIR_CUBLASLT}); "
      "looked in PATH, CUDA_HOME, CUDA_PATH, /usr/local/cuda and /opt/cuda")
  endif()
endif()

if(WEIR_HAVE_CUDA)
  set(flags -std=c++17 -O3 -lineinfo -Xcompiler -fPIC,-Wall,-Wextra,-Werror,-fvisibility=hidden
    -Werror all-warnings -I${CMAKE_SOURCE_DIR} -I${CMAKE_BINARY_DIR}/include)
  foreach(architecture ${WEIR_CUDA_ARCHITECTURES})
    list(APPEND flags -gencode arch=compute_${architecture},code=sm_${architecture})
  endforeach()
  list(GET WEIR_CUDA_ARCHITECTURES -1 newest)
  list(APPEND flags -gencode arch=compute_${newest},code=compute_${newest})
  set(objects)
  foreach(source ${WEIR_CUDA_SOURCES})
    get_filename_component(name ${source} NAME_WE)
    if(name STREQUAL "blas_plain")
      continue() # the emulated device's
    endif()
    set(object ${CMAKE_BINARY_DIR}/cuda/${name}.o)
    add_custom_command(OUTPUT ${object}
      COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/cuda
      COMMAND ${WEIR_NVCC} ${flags} -MD -MF ${object}.d -MT ${object} -c ${source} -o ${object}
      DEPENDS ${source} DEPFILE ${object}.d VERBATIM COMMENT "Compiling ops/cuda/${name}.cu")
    list(APPEND objects ${object})
  endforeach()
  set_source_files_properties(${objects} PROPERTIES EXTERNAL_OBJECT ON)
  add_library(weir_cuda SHARED ${objects})
  get_filename_component(cublas_folder ${WEIR_CUBLASLT} DIRECTORY)
  set_target_properties(weir_cuda PROPERTIES LINKER_LANGUAGE CXX
    BUILD_RPATH ${cublas_folder} INSTALL_RPATH ${cublas_folder})
  target_link_options(weir_cuda PRIVATE -Wl,--no-undefined)
  target_link_libraries(weir_cuda PRIVATE ${WEIR_CUDART} ${WEIR_CUBLASLT} pthread rt
    ${CMAKE_DL_LIBS})
  install(TARGETS weir_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()

# The same sources for the emulator (cmake/WeirEmulator.cmake), which the tests run.
function(weir_add_emulated_cuda)
  set(sources ${WEIR_CUDA_SOURCES})
  list(REMOVE_ITEM sources ${CMAKE_SOURCE_DIR}/ops/cuda/blas_lt.cu)
  weir_cuda_emulated_library(weir_cuda_emulated ${sources})
endfunction()
