# Targets of this project: warning and sanitizer flags, the shared precompiled libtorch header,
# and one function each for a library and a test program.

add_library(xlstm_flags INTERFACE)
target_include_directories(xlstm_flags INTERFACE "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}")
target_compile_options(xlstm_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # libtorch's headers trip these inside inlined templates, where SYSTEM does not silence them.
  target_compile_options(xlstm_flags INTERFACE -Wno-psabi -Wno-maybe-uninitialized)
endif()
if(XLSTM_WERROR)
  target_compile_options(xlstm_flags INTERFACE -Werror)
endif()

if(XLSTM_SANITIZE STREQUAL "address")
  set(xlstm_sanitize -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
elseif(XLSTM_SANITIZE STREQUAL "thread")
  set(xlstm_sanitize -fsanitize=thread -fno-omit-frame-pointer)
elseif(XLSTM_SANITIZE)
  message(FATAL_ERROR "XLSTM_SANITIZE: expected empty, address or thread, got ${XLSTM_SANITIZE}")
endif()
if(XLSTM_SANITIZE)
  add_compile_options(${xlstm_sanitize})
  add_link_options(${xlstm_sanitize})
endif()

# ccache speeds up rebuilds in fresh clones; the sloppiness lets it work with the precompiled header.
find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${CMAKE_COMMAND}" -E env
    "CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime" "${CCACHE_PROGRAM}")
  add_compile_options(
    "$<$<COMPILE_LANG_AND_ID:CXX,GNU>:-fpch-preprocess>"
    "$<$<COMPILE_LANG_AND_ID:CXX,Clang,AppleClang>:SHELL:-Xclang -fno-pch-timestamp>")
endif()

# xlstm_library(NAME [TORCH] SOURCES files... [DEPS targets...])
# TORCH: the sources include libtorch.
function(xlstm_library name)
  cmake_parse_arguments(ARG "TORCH" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC xlstm_flags ${ARG_DEPS} Threads::Threads)
  if(ARG_TORCH)
    xlstm_use_torch(${name})
  endif()
endfunction()

# Links libtorch and lets the target use the precompiled header that all of them share: it takes half a minute to make
# and saves some seconds a file. It fits only targets with equal code generation flags, so none asks for PIC or PIE.
function(xlstm_use_torch name)
  target_link_libraries(${name} PUBLIC LibTorch::torch_cpu)
  if(NOT TARGET xlstm_torch_pch)
    file(CONFIGURE OUTPUT "${PROJECT_BINARY_DIR}/xlstm_torch_pch.cpp" CONTENT "")
    add_library(xlstm_torch_pch OBJECT "${PROJECT_BINARY_DIR}/xlstm_torch_pch.cpp")
    target_link_libraries(xlstm_torch_pch PUBLIC
      xlstm_flags LibTorch::torch_cpu nlohmann_json::nlohmann_json Threads::Threads)
    target_precompile_headers(xlstm_torch_pch PRIVATE <ATen/ATen.h> <nlohmann/json.hpp>)
  endif()
  target_precompile_headers(${name} REUSE_FROM xlstm_torch_pch)
endfunction()

# xlstm_test(NAME [TORCH] [TIMEOUT seconds] SOURCES files... [DEPS targets...])
# Without TORCH every test case is a ctest entry. With TORCH the whole program is one entry, because each process
# pays libtorch's load time.
function(xlstm_test name)
  cmake_parse_arguments(ARG "TORCH" "TIMEOUT" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE xlstm_flags ${ARG_DEPS} GTest::gtest_main GTest::gmock Threads::Threads)
  target_compile_definitions(${name} PRIVATE
    XLSTM_TEST_DATA="${PROJECT_SOURCE_DIR}/tests/data" XLSTM_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  if(ARG_TORCH)
    xlstm_use_torch(${name})
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT})
  else()
    gtest_discover_tests(${name} TEST_PREFIX "${name}." PROPERTIES TIMEOUT ${ARG_TIMEOUT} DISCOVERY_TIMEOUT 60)
  endif()
endfunction()
