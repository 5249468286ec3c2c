# CMake toolchain: compiles for macOS 14 on arm64 with the compilers in XLSTM_MACOS_TOOLS (cc, c++, ar, ranlib: those of
# Zig under these names) and finds libraries in XLSTM_MACOS_LIBRARIES and XLSTM_LIBTORCH alone, none of this machine's.
set(CMAKE_SYSTEM_NAME Darwin)
set(CMAKE_SYSTEM_VERSION 23.0.0)  # Darwin's, of macOS 14
set(CMAKE_SYSTEM_PROCESSOR arm64)
set(CMAKE_OSX_SYSROOT "" CACHE STRING "None: the compiler brings the headers")
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES XLSTM_MACOS_TOOLS XLSTM_MACOS_LIBRARIES XLSTM_LIBTORCH)

set(CMAKE_C_COMPILER "${XLSTM_MACOS_TOOLS}/cc")
set(CMAKE_CXX_COMPILER "${XLSTM_MACOS_TOOLS}/c++")
set(CMAKE_AR "${XLSTM_MACOS_TOOLS}/ar" CACHE FILEPATH "")
set(CMAKE_RANLIB "${XLSTM_MACOS_TOOLS}/ranlib" CACHE FILEPATH "")

# Without optimisation Zig would add checks at run time.
set(CMAKE_C_FLAGS_INIT "-fno-sanitize=undefined")
# Apple's math.h asks for a part of float.h, and the libc++ of Zig 0.17 then leaves out the rest: all of it comes first.
set(CMAKE_CXX_FLAGS_INIT "-fno-sanitize=undefined -include float.h -include __float_infinity_nan.h")
set(CMAKE_EXE_LINKER_FLAGS_INIT "-L${XLSTM_MACOS_LIBRARIES}/lib")

set(CMAKE_FIND_ROOT_PATH "${XLSTM_MACOS_LIBRARIES}" "${XLSTM_LIBTORCH}")
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
foreach(kind LIBRARY INCLUDE PACKAGE)
  set(CMAKE_FIND_ROOT_PATH_MODE_${kind} ONLY)
endforeach()
set(CMAKE_DISABLE_FIND_PACKAGE_PkgConfig ON)  # it would speak of this machine's libraries
