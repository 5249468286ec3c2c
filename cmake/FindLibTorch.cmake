# Finds libtorch's libraries without libtorch's own TorchConfig.cmake, which demands a CUDA toolkit for the PyPI
# wheel even where CUDA is not used.
#
# Looks in, in this order:
#   1. XLSTM_LIBTORCH: a folder with include/ and lib/ (an unpacked libtorch, or the torch folder of an installed wheel);
#   2. CMAKE_PREFIX_PATH, the CMake variable and the environment variable: such a folder, a folder that holds torch/
#      (site-packages), or torch/share/cmake (what Python's torch.utils.cmake_prefix_path prints);
#   3. the wheel that scripts/setup.sh puts into .deps/.
# The first libtorch found is taken; one that is too old, or that was built with the old C++ ABI, is refused.
#
# Defines LibTorch_VERSION, LibTorch_ROOT_DIR and the imported targets LibTorch::c10 and LibTorch::torch_cpu, and
# LibTorch::torch_cuda where that libtorch has CUDA.

set(XLSTM_LIBTORCH "" CACHE PATH "libtorch folder (with include/ and lib/); empty: search")

# The folders to look into, best first.
function(_libtorch_candidates result)
  if(XLSTM_LIBTORCH)
    set(${result} "${XLSTM_LIBTORCH}" PARENT_SCOPE)
    return()
  endif()
  file(TO_CMAKE_PATH "$ENV{CMAKE_PREFIX_PATH}" environment_prefixes)
  set(candidates)
  foreach(prefix IN LISTS CMAKE_PREFIX_PATH environment_prefixes)
    list(APPEND candidates "${prefix}" "${prefix}/torch" "${prefix}/../..")
  endforeach()
  file(GLOB wheels "${PROJECT_SOURCE_DIR}/.deps/torch-*/torch")
  list(SORT wheels COMPARE NATURAL ORDER DESCENDING)
  list(APPEND candidates ${wheels})
  set(${result} "${candidates}" PARENT_SCOPE)
endfunction()

# "2.11.0" from the headers; older libtorches have the numbers in another header.
function(_libtorch_version root result)
  set(version)
  foreach(header torch/headeronly/version.h torch/csrc/api/include/torch/version.h)
    if(EXISTS "${root}/include/${header}")
      file(STRINGS "${root}/include/${header}" lines REGEX "#define TORCH_VERSION_(MAJOR|MINOR|PATCH) [0-9]+")
      if(lines)
        foreach(part MAJOR MINOR PATCH)
          string(REGEX MATCH "TORCH_VERSION_${part} ([0-9]+)" matched "${lines}")
          list(APPEND version "${CMAKE_MATCH_1}")
        endforeach()
        break()
      endif()
    endif()
  endforeach()
  list(JOIN version "." version)
  set(${result} "${version}" PARENT_SCOPE)
endfunction()

_libtorch_candidates(_libtorch_folders)
set(LibTorch_ROOT_DIR "LibTorch_ROOT_DIR-NOTFOUND")
foreach(_folder IN LISTS _libtorch_folders)
  if(EXISTS "${_folder}/include/ATen/ATen.h" AND EXISTS "${_folder}/lib")
    get_filename_component(LibTorch_ROOT_DIR "${_folder}" REALPATH)
    break()
  endif()
endforeach()

unset(LibTorch_TORCH_CPU_LIBRARY)
unset(LibTorch_C10_LIBRARY)
unset(LibTorch_TORCH_CUDA_LIBRARY)
unset(LibTorch_C10_CUDA_LIBRARY)
unset(LibTorch_VERSION)
set(_libtorch_hint "run scripts/setup.sh, or name a libtorch >= ${LibTorch_FIND_VERSION} with -DXLSTM_LIBTORCH=DIR")
if(LibTorch_ROOT_DIR)
  find_library(LibTorch_TORCH_CPU_LIBRARY torch_cpu PATHS "${LibTorch_ROOT_DIR}/lib" NO_DEFAULT_PATH NO_CACHE)
  find_library(LibTorch_C10_LIBRARY c10 PATHS "${LibTorch_ROOT_DIR}/lib" NO_DEFAULT_PATH NO_CACHE)
  find_library(LibTorch_TORCH_CUDA_LIBRARY torch_cuda PATHS "${LibTorch_ROOT_DIR}/lib" NO_DEFAULT_PATH NO_CACHE)
  find_library(LibTorch_C10_CUDA_LIBRARY c10_cuda PATHS "${LibTorch_ROOT_DIR}/lib" NO_DEFAULT_PATH NO_CACHE)
  _libtorch_version("${LibTorch_ROOT_DIR}" LibTorch_VERSION)
  # Our other libraries use libstdc++'s new strings; linking with the old ones fails with pages of undefined symbols.
  if(EXISTS "${LibTorch_ROOT_DIR}/share/cmake/Torch/TorchConfig.cmake")
    file(STRINGS "${LibTorch_ROOT_DIR}/share/cmake/Torch/TorchConfig.cmake" _old_abi REGEX "_GLIBCXX_USE_CXX11_ABI=0")
    if(_old_abi)
      message(FATAL_ERROR "LibTorch (${LibTorch_ROOT_DIR}): expected the C++11 ABI, got the old one; ${_libtorch_hint}")
    endif()
  endif()
elseif(XLSTM_LIBTORCH)
  set(_libtorch_hint "XLSTM_LIBTORCH (${XLSTM_LIBTORCH}): expected a folder with include/ATen/ATen.h and lib/")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch
  REQUIRED_VARS LibTorch_TORCH_CPU_LIBRARY LibTorch_C10_LIBRARY LibTorch_ROOT_DIR
  VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE "${_libtorch_hint}")

if(LibTorch_FOUND AND NOT TARGET LibTorch::torch_cpu)
  add_library(LibTorch::c10 SHARED IMPORTED)
  set_target_properties(LibTorch::c10 PROPERTIES
    IMPORTED_LOCATION "${LibTorch_C10_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${LibTorch_ROOT_DIR}/include;${LibTorch_ROOT_DIR}/include/torch/csrc/api/include")
  add_library(LibTorch::torch_cpu SHARED IMPORTED)
  set_target_properties(LibTorch::torch_cpu PROPERTIES
    IMPORTED_LOCATION "${LibTorch_TORCH_CPU_LIBRARY}"
    INTERFACE_LINK_LIBRARIES "LibTorch::c10")
  if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
    # The wheel's libraries find their CUDA runtime through their own RPATH, which the linker does not follow.
    set_property(TARGET LibTorch::torch_cpu APPEND PROPERTY INTERFACE_LINK_OPTIONS -Wl,--allow-shlib-undefined)
  endif()
  if(LibTorch_TORCH_CUDA_LIBRARY AND LibTorch_C10_CUDA_LIBRARY)
    # Needed even though no symbol of it is: CUDA's operators register themselves when it is loaded.
    add_library(LibTorch::torch_cuda INTERFACE IMPORTED)
    set_target_properties(LibTorch::torch_cuda PROPERTIES INTERFACE_LINK_LIBRARIES
      "-Wl,--no-as-needed,${LibTorch_TORCH_CUDA_LIBRARY},${LibTorch_C10_CUDA_LIBRARY},--as-needed;LibTorch::torch_cpu")
    # A wheel's CUDA libraries lie beside it; what the program itself needs of them are to be the same files.
    file(GLOB _libtorch_cuda_folders "${LibTorch_ROOT_DIR}/../nvidia/cu[0-9]*/lib")
    list(TRANSFORM _libtorch_cuda_folders PREPEND -Wl,-rpath,)
    set_property(TARGET LibTorch::torch_cuda APPEND PROPERTY INTERFACE_LINK_OPTIONS ${_libtorch_cuda_folders})
  endif()
endif()
