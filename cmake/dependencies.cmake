# Everything comes from the distribution's packages (scripts/bootstrap installs them).
# The reason for each stands in docs/decisions/0002-dependencies.md.

find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(OpenSSL 3.0 REQUIRED)
find_package(RocksDB 7.8 CONFIG REQUIRED)
find_package(Protobuf 3.21 REQUIRED)
find_package(Boost 1.81 REQUIRED)
find_package(fmt 9 CONFIG REQUIRED)
find_package(spdlog 1.10 CONFIG REQUIRED)
find_package(CLI11 2.1 CONFIG REQUIRED)
find_package(nlohmann_json 3.11 CONFIG REQUIRED)
find_package(tomlplusplus CONFIG REQUIRED)
find_package(GTest CONFIG REQUIRED)
find_package(benchmark CONFIG REQUIRED)
pkg_check_modules(URING REQUIRED IMPORTED_TARGET liburing)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)  # bench alone

# Third-party headers are not ours to warn about.
add_library(ballast_asio INTERFACE)
target_link_libraries(ballast_asio INTERFACE Threads::Threads)
target_include_directories(ballast_asio SYSTEM INTERFACE ${Boost_INCLUDE_DIRS})
target_compile_definitions(ballast_asio INTERFACE BOOST_ASIO_NO_DEPRECATED)
