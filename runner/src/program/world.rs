//! What a binary imports and exports, read without compiling it.

use std::ops::Range;

use wasmparser::{
    BinaryReaderError, ComponentImportSectionReader, CompositeInnerType, ExternalKind, Parser, Payload,
    RecGroup, TypeRef,
};

/// The id of a component's import section, as a byte of the binary format.
const COMPONENT_IMPORTS: u8 = 10;

/// A core module or a component, seen from outside.
#[derive(Debug, Default)]
pub(super) struct World<'a> {
    /// What it imports, if it is a core module: module and name.
    pub(super) core_imports: Vec<(&'a str, &'a str)>,
    /// What it imports before it brings any code, if it is a component. Tools write all imports there.
    pub(super) imports: Vec<Import<'a>>,
    /// What it exports.
    pub(super) exports: Vec<Export<'a>>,
}

/// One import of a component.
#[derive(Debug)]
pub(super) struct Import<'a> {
    pub(super) name: &'a str,
    /// Where the section before ends.
    before: usize,
    /// How many imports of its section there are up to and with this, and where they are.
    count: u32,
    items: Range<usize>,
}

/// One export.
#[derive(Debug)]
pub(super) struct Export<'a> {
    pub(super) name: &'a str,
    /// Whether it is a core function without parameters and results.
    pub(super) is_entry_point: bool,
}

impl<'a> World<'a> {
    /// Reads `bytes` without a look at code.
    ///
    /// # Errors
    /// When it is no WebAssembly binary.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, BinaryReaderError> {
        let mut world = Self::default();
        let mut functions = Functions::default();
        let (mut depth, mut before, mut has_code) = (0_usize, 0, false);
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload?;
            // What is inside a component is its own affair.
            let is_late_import = has_code && matches!(payload, Payload::ComponentImportSection(_));
            if depth == 0 && !is_late_import {
                world.take(&payload, before, &mut functions)?;
            }
            let end = payload.as_section().map(|(_, range)| range.end);
            match payload {
                Payload::Version { range, .. } if depth == 0 => before = range.end,
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                    (depth, has_code) = (depth + 1, true);
                }
                Payload::End(end) => {
                    depth = depth.saturating_sub(1);
                    before = end;
                }
                _ => before = end.unwrap_or(before),
            }
        }
        Ok(world)
    }

    fn take(
        &mut self,
        payload: &Payload<'a>,
        before: usize,
        functions: &mut Functions,
    ) -> Result<(), BinaryReaderError> {
        match payload {
            Payload::TypeSection(groups) => {
                groups
                    .clone()
                    .into_iter()
                    .try_for_each(|group| group.map(|group| functions.types(&group)))?;
            }
            Payload::ImportSection(imports) => {
                for import in imports.clone().into_imports() {
                    let import = import?;
                    self.core_imports.push((import.module, import.name));
                    if let TypeRef::Func(ty) | TypeRef::FuncExact(ty) = import.ty {
                        functions.function_types.push(ty);
                    }
                }
            }
            Payload::FunctionSection(types) => {
                types
                    .clone()
                    .into_iter()
                    .try_for_each(|ty| ty.map(|ty| functions.function_types.push(ty)))?;
            }
            Payload::ExportSection(exports) => {
                for export in exports.clone() {
                    let export = export?;
                    let is_entry_point =
                        export.kind == ExternalKind::Func && functions.is_entry_point(export.index as usize);
                    self.exports.push(Export { name: export.name, is_entry_point });
                }
            }
            Payload::ComponentImportSection(imports) => self.take_imports(imports, before)?,
            Payload::ComponentExportSection(exports) => {
                for export in exports.clone() {
                    self.exports.push(Export { name: export?.name.name, is_entry_point: false });
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn take_imports(
        &mut self,
        section: &ComponentImportSectionReader<'a>,
        before: usize,
    ) -> Result<(), BinaryReaderError> {
        let found: Vec<_> = section.clone().into_iter_with_offsets().collect::<Result<_, _>>()?;
        let starts = found.iter().map(|(start, _)| *start);
        let ends = starts.clone().skip(1).chain([section.range().end]);
        let first = starts.clone().next().unwrap_or_default();
        for (((_, import), end), count) in found.iter().zip(ends).zip(1..) {
            self.imports.push(Import { name: import.name.name, before, count, items: first..end });
        }
        Ok(())
    }
}

impl Import<'_> {
    /// `bytes`, which the import was read from, up to it: a component that imports this and what comes before.
    pub(super) fn prefix_component(&self, bytes: &[u8]) -> Vec<u8> {
        let mut section = Vec::new();
        push_leb128(&mut section, self.count);
        section.extend_from_slice(&bytes[self.items.clone()]);
        let mut component = bytes[..self.before].to_vec();
        component.push(COMPONENT_IMPORTS);
        push_leb128(&mut component, u32::try_from(section.len()).unwrap_or(u32::MAX));
        component.extend(section);
        component
    }
}

/// An unsigned number as the binary format writes it.
fn push_leb128(bytes: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        bytes.push(value as u8 & 0x7f | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// The functions of a core module.
#[derive(Debug, Default)]
struct Functions {
    /// Of each type, whether it is a function's without parameters and results.
    type_is_entry_point: Vec<bool>,
    /// Of each function, its type.
    function_types: Vec<u32>,
}

impl Functions {
    fn types(&mut self, group: &RecGroup) {
        self.type_is_entry_point.extend(group.types().map(|ty| match &ty.composite_type.inner {
            CompositeInnerType::Func(ty) => ty.params().is_empty() && ty.results().is_empty(),
            _ => false,
        }));
    }

    fn is_entry_point(&self, function: usize) -> bool {
        let ty = self.function_types.get(function).and_then(|ty| self.type_is_entry_point.get(*ty as usize));
        ty.copied().unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_module_shows_imports_and_which_exports_can_be_run() {
        let bytes = wat::parse_str(
            r#"(module
              (type $number (func (result i32)))
              (import "env" "memory" (memory 1))
              (import "env" "magic" (func (type $number)))
              (func $run)
              (export "magic" (func 0))
              (export "_start" (func $run))
              (export "memory" (memory 0)))"#,
        )
        .unwrap();
        let world = World::read(&bytes).unwrap();
        assert_eq!(world.core_imports, [("env", "memory"), ("env", "magic")]);
        let exports: Vec<_> =
            world.exports.iter().map(|export| (export.name, export.is_entry_point)).collect();
        assert_eq!(exports, [("magic", false), ("_start", true), ("memory", false)]);
    }

    #[test]
    fn each_import_of_a_component_can_be_judged_with_those_before_alone() {
        let bytes = wat::parse_str(
            r#"(component
              (import "a:b/one" (instance (export "f" (func))))
              (type $f (func))
              (import "two" (func (type $f)))
              (import "three" (func (type $f)))
              (core module (import "env" "inner" (func)))
              (import "behind-code" (func (type $f)))
              (export "out" (func 0)))"#,
        )
        .unwrap();
        let world = World::read(&bytes).unwrap();
        assert_eq!(world.exports.iter().map(|export| export.name).collect::<Vec<_>>(), ["out"]);
        let names: Vec<_> = world.imports.iter().map(|import| import.name).collect();
        assert_eq!(names, ["a:b/one", "two", "three"]);
        for (import, count) in world.imports.iter().zip(1..) {
            let component = import.prefix_component(&bytes);
            let until: Vec<_> =
                World::read(&component).unwrap().imports.into_iter().map(|at| at.name).collect();
            assert_eq!(until, names[..count]);
            let engine = wasmtime::Engine::default();
            wasmtime::component::Component::from_binary(&engine, &component).unwrap();
        }
    }

    #[test]
    fn lengths_are_written_as_the_format_has_them() {
        for (value, expected) in
            [(0, &[0][..]), (127, &[127]), (128, &[0x80, 1]), (624_485, &[0xe5, 0x8e, 0x26])]
        {
            let mut bytes = Vec::new();
            push_leb128(&mut bytes, value);
            assert_eq!(bytes, expected);
        }
    }
}
