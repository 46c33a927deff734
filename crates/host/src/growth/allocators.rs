//! Allocators: functions that ask for memory in the name of who called them.

/// The innermost of `functions`, of which the outermost comes first, that is no part of an allocator.
pub(super) fn asking(functions: &[String]) -> &str {
    let own = functions.iter().rev().find(|function| !is_allocator(function));
    own.or(functions.last()).map_or("", String::as_str)
}

/// Whether a function is a part of allocators of Rust, C, C++, Go, TinyGo, AssemblyScript, CPython or QuickJS, or of a collection that asks one for room.
fn is_allocator(function: &str) -> bool {
    const NAMES: [&str; 20] = [
        "malloc",
        "calloc",
        "realloc",
        "aligned_alloc",
        "posix_memalign",
        "sbrk",
        "__sbrk",
        "cabi_realloc",
        "internal_memalign",
        "internal_realloc",
        "prepend_alloc",
        "sys_alloc",
        "runtime.newobject",
        "runtime.makeslice",
        "runtime.growslice",
        "runtime.growHeap",
        "runtime.sbrk",
        "PyObject_Malloc",
        "PyObject_Calloc",
        "PyObject_Realloc",
    ];
    const BEGINNINGS: [&str; 28] = [
        "dlmalloc",
        "dlcalloc",
        "dlrealloc",
        "__rust_alloc",
        "__rust_realloc",
        "__rdl_",
        "__rustc::",
        "__rustc[",
        "alloc::",
        "std::alloc::",
        "std::collections::",
        "hashbrown::",
        "std::__2::",
        "__rg_",
        "std::sys::alloc::",
        "operator new",
        "runtime.alloc",
        "runtime.malloc",
        "runtime.(*mheap)",
        "runtime.(*mcache)",
        "runtime.(*mcentral)",
        "~lib/rt/",
        "PyMem_",
        "_PyMem_",
        "_PyObject_Malloc",
        "_PyObject_Calloc",
        "_PyObject_Realloc",
        "js_def_malloc",
    ];
    // A method of a type, `<alloc::vec::Vec<T>>::f`, is named by the type; of a trait, `<T as alloc::…::Trait>::f`, by either.
    let name = function.trim_start_matches('<');
    let named_so = |name: &str| BEGINNINGS.iter().any(|beginning| name.starts_with(beginning));
    let of_trait = function.starts_with('<') && name.split_once(" as ").is_some_and(|(_, of)| named_so(of));
    NAMES.contains(&name) || named_so(name) || of_trait
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocators_are_told_from_those_who_ask_them() {
        for (stack, expected) in [
            (
                &[
                    "leaky::main",
                    "ebb_guests::memory::leak",
                    "<alloc::raw_vec::RawVecInner>::try_allocate_in",
                    "<T as alloc::vec::spec_from_elem::SpecFromElem>::from_elem",
                    "__rustc::__rust_alloc",
                    "malloc",
                    "dlmalloc",
                ][..],
                "ebb_guests::memory::leak",
            ),
            (&["main", "grow(int)", "operator new(unsigned long)", "malloc"], "grow(int)"),
            (&["main.main", "main.fill", "runtime.makeslice", "runtime.mallocgc"], "main.fill"),
            (&["main", "<app::Cache as app::Store>::put", "malloc"], "<app::Cache as app::Store>::put"),
            (
                &["_PyEval_EvalFrameDefault", "bytes_join", "PyObject_Malloc", "_PyMem_RawMalloc", "malloc"],
                "bytes_join",
            ),
            (&["main", "mallocs"], "mallocs"),
            (&["malloc"], "malloc"),
        ] {
            let stack: Vec<_> = stack.iter().map(ToString::to_string).collect();
            assert_eq!(asking(&stack), expected);
        }
    }
}
