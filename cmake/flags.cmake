# The compiler, the language and the warnings: one place for the whole tree.

if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  message(FATAL_ERROR
    "g++ ${CMAKE_CXX_COMPILER_VERSION} destroys temporaries twice in co_await expressions. "
    "Use clang 19 (the presets do) or g++ 13 or newer; scripts/bootstrap installs clang 19.")
endif()

set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)

option(BALLAST_WERROR "Treat warnings as errors" ON)
set(BALLAST_SANITIZE "" CACHE STRING "Sanitizers of the whole tree: 'address,undefined' or 'thread'")
option(BALLAST_FUZZ "Build the fuzz targets with libFuzzer" OFF)

# Warnings belong to our targets only: ballast_library() and ballast_program() link this.
add_library(ballast_options INTERFACE)
target_include_directories(ballast_options INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
target_compile_options(ballast_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Wold-style-cast -Wconversion
  -Wno-sign-conversion)
if(BALLAST_WERROR)
  target_compile_options(ballast_options INTERFACE -Werror)
endif()
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  # "BALLAST_CHECK(c)" leaves __VA_ARGS__ empty, which C++20 allows.
  target_compile_options(ballast_options INTERFACE
    -Wno-gnu-zero-variadic-macro-arguments
    # A designated initializer that leaves a field out means its default.
    -Wno-missing-designated-field-initializers)
  add_link_options(-fuse-ld=lld-19)
else()
  # Loops tell clang how to unroll them.
  target_compile_options(ballast_options INTERFACE -Wno-unknown-pragmas)
endif()

if(BALLAST_SANITIZE)
  add_compile_options(-fsanitize=${BALLAST_SANITIZE} -fno-sanitize-recover=all
                      -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${BALLAST_SANITIZE})
endif()
if(BALLAST_SANITIZE MATCHES "thread")
  add_link_options(LINKER:--version-script=${CMAKE_CURRENT_LIST_DIR}/tsan.map)
endif()
if(BALLAST_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

# One library per room: ballast_library(name SOURCES... DEPENDS targets...)
function(ballast_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC ballast_options ${ARG_DEPENDS})
endfunction()

function(ballast_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ballast_options ${ARG_DEPENDS})
endfunction()
