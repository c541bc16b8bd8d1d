# The flags of all our own C++; generated code is built without them.
add_library(hg_flags INTERFACE)
target_compile_options(hg_flags INTERFACE -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Werror
  # Designated initialisers name what differs from the defaults; the rest is meant.
  -Wno-missing-field-initializers)
target_include_directories(hg_flags INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_definitions(hg_flags INTERFACE HG_VERSION="${PROJECT_VERSION}")
if(HG_SANITIZE)
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
endif()

# hg_library(NAME SOURCES ... LINK ...): a static library of ours. LINK is the whole of what it may include.
function(hg_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINK" ${ARGN})
  add_library(${name} STATIC ${arg_SOURCES})
  target_link_libraries(${name} PUBLIC hg_flags ${arg_LINK})
endfunction()

# hg_program(NAME SOURCES ... LINK ...)
function(hg_program name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE hg_flags ${arg_LINK})
endfunction()
