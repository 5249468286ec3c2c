# Where the executable is built, and what `cmake --install` copies: bin, share/xlstm_generate and the documentation.
#
# The installed tree can be moved as a whole. libtorch stays where it was at build time and is found there by its
# absolute path; with XLSTM_BUNDLE_LIBTORCH its CPU libraries and what they load are copied into the tree too.

option(XLSTM_BUNDLE_LIBTORCH "Install libtorch's CPU libraries beside the executable" OFF)

set(xlstm_libdir "${CMAKE_INSTALL_LIBDIR}/xlstm_generate")
file(RELATIVE_PATH xlstm_bin_to_lib "/prefix/${CMAKE_INSTALL_BINDIR}" "/prefix/${xlstm_libdir}")
if(APPLE)
  set(xlstm_origin "@loader_path")
else()
  set(xlstm_origin "$ORIGIN")
endif()
set_target_properties(xlstm_generate PROPERTIES
  RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin"
  INSTALL_RPATH "${xlstm_origin}/${xlstm_bin_to_lib}")
if(NOT XLSTM_BUNDLE_LIBTORCH)
  # Said outright: CMake leaves directories below the source tree, where .deps is, out of the link path.
  set_property(TARGET xlstm_generate APPEND PROPERTY INSTALL_RPATH "${LibTorch_ROOT_DIR}/lib")
endif()

if(XLSTM_BUNDLE_LIBTORCH)
  install(TARGETS xlstm_generate RUNTIME_DEPENDENCY_SET libtorch RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
  # Of all that the executable loads, only what came with libtorch. One flat folder will do: $ORIGIN is in the RPATH of
  # libtorch's libraries.
  install(RUNTIME_DEPENDENCY_SET libtorch
    POST_INCLUDE_REGEXES "/torch/lib/" "/nvidia/" "^${LibTorch_ROOT_DIR}/lib/"
    POST_EXCLUDE_REGEXES ".*"
    LIBRARY DESTINATION "${xlstm_libdir}")
else()
  install(TARGETS xlstm_generate RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
endif()
install(DIRECTORY configs DESTINATION "${CMAKE_INSTALL_DATADIR}/xlstm_generate" FILES_MATCHING PATTERN "*.json")
install(DIRECTORY models/xlstm-tales-8m DESTINATION "${CMAKE_INSTALL_DATADIR}/xlstm_generate/models")
install(DIRECTORY tests/data/goldens/tales DESTINATION "${CMAKE_INSTALL_DATADIR}/xlstm_generate/goldens")
install(FILES README.md LICENSE CHANGELOG.md DESTINATION "${CMAKE_INSTALL_DOCDIR}")
