# Installing: the program, the library, all headers of the layers under include/weir/ (so that
# `#include "graph/base.h"` works there as here), the umbrella weir/weir.h, the recipes, and the
# files by which pkg-config and CMake find Weir.
include(CMakePackageConfigHelpers)

# What weir.h includes: the interface of each layer, from the lowest to the highest.
set(WEIR_UMBRELLA
  graph/base.h graph/dims.h graph/graph.h graph/op.h graph/program.h graph/plan.h graph/session.h
  ops/attention.h ops/cache.h ops/cross_entropy.h ops/elementwise.h ops/fuse.h ops/host.h
  ops/index.h ops/layout.h ops/linalg.h ops/lstm.h ops/mask.h ops/matmul.h ops/nlsq.h ops/norm.h
  ops/random_ops.h ops/reduce.h ops/scan.h ops/slice.h ops/softmax.h ops/sort.h ops/table.h
  ops/update.h ops/weight_norm.h
  autodiff/autoregressive.h autodiff/check_bijection.h autodiff/grad.h autodiff/invert.h
  models/blocks.h models/flow.h models/flowseq.h models/flowseq_decoder.h models/layers.h
  models/recipe.h models/recipe_flowseq.h models/search.h models/start.h models/transformer.h
  models/transformer_decoder.h
  optim/checkpoint.h optim/optimizer.h optim/progress.h optim/safetensors.h optim/schedule.h
  data/batches.h data/dataset.h data/filter.h data/numbers.h data/pairs.h data/score.h
  data/diversity.h data/subword.h data/text.h data/tokenize.h
  viz/draw.h viz/html.h viz/plot.h)
set(includes "")
foreach(header ${WEIR_UMBRELLA})
  string(APPEND includes "#include \"${header}\"\n")
endforeach()
file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/include/weir.h CONTENT
"/* weir.h: the whole interface of Weir. */
#ifndef WEIR_H
#define WEIR_H

#ifdef __cplusplus
extern \"C\" {
#endif
${includes}
#ifdef __cplusplus
}
#endif
#endif
" @ONLY)

foreach(layer graph ops autodiff models optim data viz)
  install(DIRECTORY ${layer}/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/weir/${layer}
    FILES_MATCHING PATTERN "*.h" PATTERN "*_internal.h" EXCLUDE PATTERN "*_impl.h" EXCLUDE
    PATTERN "cuda" EXCLUDE PATTERN "cpu" EXCLUDE)
endforeach()
install(FILES ${CMAKE_BINARY_DIR}/include/weir.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/weir)
install(TARGETS weir_program DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS weir EXPORT weirTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY recipes/ DESTINATION ${CMAKE_INSTALL_DATADIR}/weir/recipes
  FILES_MATCHING PATTERN "*.yaml")

set(config ${CMAKE_INSTALL_LIBDIR}/cmake/weir)
install(EXPORT weirTargets NAMESPACE weir:: DESTINATION ${config})
configure_package_config_file(cmake/weirConfig.cmake.in ${CMAKE_BINARY_DIR}/weirConfig.cmake
  INSTALL_DESTINATION ${config})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/weirConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/weirConfig.cmake ${CMAKE_BINARY_DIR}/weirConfigVersion.cmake
  cmake/WeirDependencies.cmake DESTINATION ${config})

file(RELATIVE_PATH WEIR_PREFIX_FROM_PC "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
configure_file(cmake/weir.pc.in ${CMAKE_BINARY_DIR}/weir.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/weir.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
