# The libraries Weir stands on; README.md says what each is for, scripts/install-deps installs them.
find_package(OpenMP REQUIRED COMPONENTS C)
find_package(PkgConfig REQUIRED)
# Not find_package(dnnl): its config wants the OpenCL headers, which nothing here needs.
find_path(DNNL_INCLUDE dnnl.h REQUIRED)
find_library(DNNL_LIBRARY dnnl REQUIRED)
if(NOT TARGET weir_dnnl)
  add_library(weir_dnnl INTERFACE IMPORTED)
endif()
set_target_properties(weir_dnnl PROPERTIES INTERFACE_INCLUDE_DIRECTORIES ${DNNL_INCLUDE}
  INTERFACE_LINK_LIBRARIES ${DNNL_LIBRARY})
pkg_check_modules(OPENBLAS REQUIRED IMPORTED_TARGET openblas)
pkg_check_modules(SENTENCEPIECE REQUIRED IMPORTED_TARGET sentencepiece)
pkg_check_modules(YAML REQUIRED IMPORTED_TARGET yaml-0.1)
pkg_check_modules(CJSON REQUIRED IMPORTED_TARGET libcjson)
pkg_check_modules(ZLIB REQUIRED IMPORTED_TARGET zlib)
pkg_check_modules(LZMA REQUIRED IMPORTED_TARGET liblzma)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
find_path(RANDOM123_INCLUDE Random123/philox.h REQUIRED)

# WEIR_VIZ: ON, OFF, or AUTO (ON where Graphviz' libraries are). Without them `weir draw` writes
# Graphviz' language only.
set(WEIR_VIZ AUTO CACHE STRING "Draw through Graphviz: AUTO, ON or OFF")
set_property(CACHE WEIR_VIZ PROPERTY STRINGS AUTO ON OFF)
if(WEIR_VIZ STREQUAL "ON")
  pkg_check_modules(GRAPHVIZ REQUIRED IMPORTED_TARGET libgvc libcgraph)
elseif(WEIR_VIZ STREQUAL "AUTO")
  pkg_check_modules(GRAPHVIZ IMPORTED_TARGET libgvc libcgraph)
elseif(NOT WEIR_VIZ STREQUAL "OFF")
  message(FATAL_ERROR "WEIR_VIZ is '${WEIR_VIZ}'; allowed are AUTO, ON and OFF")
endif()

# WEIR_TRACE: ON, OFF, or AUTO (ON where libunwind and libdw are). Without them the messages of a
# graph's mistakes do not tell the chain of callers.
set(WEIR_TRACE AUTO CACHE STRING "Chains of callers in messages: AUTO, ON or OFF")
set_property(CACHE WEIR_TRACE PROPERTY STRINGS AUTO ON OFF)
if(WEIR_TRACE STREQUAL "ON" OR WEIR_TRACE STREQUAL "AUTO")
  find_path(UNWIND_INCLUDE libunwind.h PATH_SUFFIXES libunwind)
  find_library(UNWIND_LIBRARY unwind)
  pkg_check_modules(DW IMPORTED_TARGET libdw)
  if(WEIR_TRACE STREQUAL "ON" AND NOT (UNWIND_INCLUDE AND UNWIND_LIBRARY AND DW_FOUND))
    message(FATAL_ERROR "WEIR_TRACE is ON, but libunwind or libdw was not found")
  endif()
elseif(NOT WEIR_TRACE STREQUAL "OFF")
  message(FATAL_ERROR "WEIR_TRACE is '${WEIR_TRACE}'; allowed are AUTO, ON and OFF")
endif()
