# BPF objects: every stage is a translation unit of its own; bpftool links them into one object and makes a
# skeleton of it.
find_program(BPF_CLANG NAMES clang clang-14 REQUIRED)
find_program(BPFTOOL bpftool PATHS /usr/sbin /usr/local/sbin REQUIRED)
find_program(LLVM_STRIP NAMES llvm-strip llvm-strip-14 REQUIRED)

set(BPF_FLAGS -target bpf -O2 -g -mcpu=v3 -Wall -Wextra -Werror
  # Debian keeps asm/types.h in the multiarch folder.
  -idirafter /usr/include/${CMAKE_LIBRARY_ARCHITECTURE})

# bpf_skeleton(NAME stage.bpf.c ... [SKELETON name] [FLAGS flag ...]): target NAME_skeleton with header
# SKELETON.skel.h, which is called NAME unless said otherwise.
function(bpf_skeleton name)
  cmake_parse_arguments(arg "" "SKELETON" "FLAGS" ${ARGN})
  if(NOT arg_SKELETON)
    set(arg_SKELETON ${name})
  endif()
  set(objects)
  set(sources)
  foreach(source ${arg_UNPARSED_ARGUMENTS})
    get_filename_component(stage ${source} NAME_WLE)
    get_filename_component(source ${source} ABSOLUTE)
    set(object ${CMAKE_CURRENT_BINARY_DIR}/${stage}.o)
    add_custom_command(OUTPUT ${object}
      COMMAND ${BPF_CLANG} ${BPF_FLAGS} ${arg_FLAGS} -I${PROJECT_SOURCE_DIR}/bpf -MD -MF ${object}.d
              -c ${source} -o ${object}
      DEPENDS ${source}
      DEPFILE ${object}.d
      COMMENT "BPF ${name} ${stage}" VERBATIM)
    list(APPEND objects ${object})
    list(APPEND sources ${source})
  endforeach()
  set(linked ${CMAKE_CURRENT_BINARY_DIR}/${name}.linked.o)
  set(header ${CMAKE_CURRENT_BINARY_DIR}/${arg_SKELETON}.skel.h)
  add_custom_command(OUTPUT ${linked} ${header}
    COMMAND ${BPFTOOL} gen object ${linked} ${objects}
    # DWARF is not needed at run time and four times the size; BTF stays.
    COMMAND ${LLVM_STRIP} -g ${linked}
    COMMAND ${BPFTOOL} gen skeleton ${linked} name ${arg_SKELETON} > ${header}
    # Generated code is not ours to mend.
    COMMAND sed -i -e "1i // NOLINTBEGIN" -e "$ a // NOLINTEND" ${header}
    DEPENDS ${objects}
    COMMENT "Linking BPF object ${name}" VERBATIM)
  add_custom_target(${name}_bpf DEPENDS ${header})
  add_library(${name}_skeleton INTERFACE)
  add_dependencies(${name}_skeleton ${name}_bpf)
  target_include_directories(${name}_skeleton SYSTEM INTERFACE ${CMAKE_CURRENT_BINARY_DIR})
  set_property(TARGET ${name}_skeleton PROPERTY BPF_OBJECT ${linked})
  set_property(TARGET ${name}_skeleton PROPERTY BPF_SOURCES ${sources})
endfunction()
