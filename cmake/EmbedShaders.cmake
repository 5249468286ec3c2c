# Writes a C++ file with the text of Metal shaders, as a script:
#   cmake -DROOT=… -DOUTPUT=… -DSHADERS=a.metal,b.metal -P EmbedShaders.cmake
# Lines `#include "…"` are replaced by the file they name (relative to ROOT), each file once per shader: libtorch compiles
# a shader from one text. xlstm_embed_shaders() below makes the custom command.

cmake_policy(PUSH)
cmake_policy(VERSION 3.22)  # a script has no project to take policies from

function(_expand file text_variable seen_variable)
  file(READ "${ROOT}/${file}" text)
  string(REGEX REPLACE "#pragma once\n" "" text "${text}")
  # libtorch hands the text to the compiler as ASCII: comments, which may hold other characters, stay behind.
  string(REGEX REPLACE "[ \t]*//[^\n]*" "" text "${text}")
  set(seen "${${seen_variable}}")
  while(text MATCHES "#include \"([^\"]+)\"\n")
    set(line "${CMAKE_MATCH_0}")
    set(included "${CMAKE_MATCH_1}")
    set(body "")
    if(NOT included IN_LIST seen)
      list(APPEND seen "${included}")
      _expand("${included}" body seen)
    endif()
    string(FIND "${text}" "${line}" begin)
    string(SUBSTRING "${text}" 0 ${begin} before)
    string(LENGTH "${line}" length)
    math(EXPR end "${begin} + ${length}")
    string(SUBSTRING "${text}" ${end} -1 after)
    set(text "${before}${body}${after}")
  endwhile()
  set(${text_variable} "${text}" PARENT_SCOPE)
  set(${seen_variable} "${seen}" PARENT_SCOPE)
endfunction()

cmake_policy(POP)

if(CMAKE_SCRIPT_MODE_FILE)
  string(REPLACE "," ";" SHADERS "${SHADERS}")
  set(entries "")
  foreach(shader IN LISTS SHADERS)
    set(seen "")
    _expand("${shader}" text seen)
    if(text MATCHES "[^\t\n -~]")
      message(FATAL_ERROR "${shader}: expected ASCII outside of comments, got \"${CMAKE_MATCH_0}\"")
    endif()
    string(APPEND entries "    {\"${shader}\", R\"shader(${text})shader\"},\n")
  endforeach()
  file(WRITE "${OUTPUT}" "// Written by cmake/EmbedShaders.cmake.
#include \"kernels/metal/shaders.h\"

namespace xlstm::metal {
namespace {

constexpr Shader kShaders[] = {
${entries}};

}  // namespace

std::span<const Shader> shaders() {
  return kShaders;
}

}  // namespace xlstm::metal
")
  return()
endif()

# xlstm_embed_shaders(<C++ file to write> HEADERS <files> SHADERS <files>): paths below the project's root. The global
# property XLSTM_METAL_SHADERS lists the shaders for the tests.
function(xlstm_embed_shaders output)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "HEADERS;SHADERS")
  set_property(GLOBAL APPEND PROPERTY XLSTM_METAL_SHADERS ${arg_SHADERS})
  list(JOIN arg_SHADERS "," shaders)
  list(TRANSFORM arg_SHADERS PREPEND "${PROJECT_SOURCE_DIR}/" OUTPUT_VARIABLE shader_files)
  list(TRANSFORM arg_HEADERS PREPEND "${PROJECT_SOURCE_DIR}/" OUTPUT_VARIABLE header_files)
  set(script "${PROJECT_SOURCE_DIR}/cmake/EmbedShaders.cmake")
  add_custom_command(OUTPUT "${output}"
    COMMAND "${CMAKE_COMMAND}" "-DROOT=${PROJECT_SOURCE_DIR}" "-DOUTPUT=${output}" "-DSHADERS=${shaders}" -P "${script}"
    DEPENDS ${shader_files} ${header_files} "${script}"
    COMMENT "Embedding Metal shaders"
    VERBATIM)
endfunction()
