//! A containerd shim that runs WebAssembly by Wasmtime: core modules of WASI preview 1 and command components of WASI preview 2.
//! It stands for runwasi's own shim, whose crate is in no registry; all but Wasmtime itself is runwasi's library.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use anyhow::{Context, Result, bail};
use containerd_shim_wasm::sandbox::Sandbox;
use containerd_shim_wasm::sandbox::context::{RuntimeContext, WasmBinaryType, WasmLayer};
use containerd_shim_wasm::shim::{Cli, Compiler, Shim, Version};
use wasmtime::component::{self, Component};
use wasmtime::{Engine, Module, Precompiled, Store};
use wasmtime_wasi::p1::{self, WasiP1Ctx};
use wasmtime_wasi::p2::{self, bindings::Command};
use wasmtime_wasi::{FsPerms, I32Exit, ResourceTable, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

static ENGINE: LazyLock<Engine> = LazyLock::new(Engine::default);

struct Wasmtime;

impl Shim for Wasmtime {
    type Sandbox = Container;

    fn name() -> &'static str {
        "wasmtime"
    }

    fn version() -> Version {
        // Not the library's macro: it would ask git, and the bytes would depend on where this is built.
        Version { version: env!("CARGO_PKG_VERSION"), revision: "" }
    }

    async fn compiler() -> Option<impl Compiler> {
        Some(Precompiler)
    }
}

/// Compiles a layer once; containerd keeps the result beside the image.
struct Precompiler;

impl Compiler for Precompiler {
    fn cache_key(&self) -> impl Hash {
        let mut hasher = DefaultHasher::new();
        ENGINE.precompile_compatibility_hash().hash(&mut hasher);
        hasher.finish()
    }

    async fn compile(&self, layers: &[WasmLayer]) -> Result<Vec<Option<Vec<u8>>>> {
        let compile = |bytes: &[u8]| match WasmBinaryType::from_bytes(bytes) {
            Some(WasmBinaryType::Module) => ENGINE.precompile_module(bytes).map(Some),
            Some(WasmBinaryType::Component) => ENGINE.precompile_component(bytes).map(Some),
            None => Ok(None),
        };
        Ok(layers.iter().map(|one| compile(&one.layer)).collect::<wasmtime::Result<_>>()?)
    }
}

/// What runs in one container.
#[derive(Default)]
struct Container;

impl Sandbox for Container {
    async fn run_wasi(&self, ctx: &impl RuntimeContext) -> Result<i32> {
        let entrypoint = ctx.entrypoint();
        let bytes = entrypoint.source.as_bytes()?;
        let ended = match load(&bytes, entrypoint.source.is_precompiled()?)? {
            Program::Module(module) => run_module(&module, &entrypoint.func, wasi(ctx)?.build_p1()).await,
            Program::Component(component) => run_component(&component, &entrypoint.func, wasi(ctx)?.build()).await,
        };
        match ended {
            Ok(code) => Ok(code),
            // WASI's exit is an error that unwinds the stack.
            Err(error) => match error.downcast_ref::<I32Exit>() {
                Some(I32Exit(code)) => Ok(*code),
                None => {
                    // Standard error is the container's: a trap is told to whoever reads its log.
                    eprintln!("{error:?}");
                    Err(error.into())
                }
            },
        }
    }
}

enum Program {
    Module(Module),
    Component(Component),
}

/// `precompiled` says that the bytes are what the precompiler gave to containerd.
fn load(bytes: &[u8], precompiled: bool) -> Result<Program> {
    if precompiled {
        // SAFETY: native code, which only containerd's own store holds; Wasmtime checks that it is of this engine.
        return Ok(match Engine::detect_precompiled(bytes) {
            Some(Precompiled::Module) => Program::Module(unsafe { Module::deserialize(&ENGINE, bytes)? }),
            Some(Precompiled::Component) => Program::Component(unsafe { Component::deserialize(&ENGINE, bytes)? }),
            None => bail!("the precompiled layer is not Wasmtime's"),
        });
    }
    Ok(match WasmBinaryType::from_bytes(bytes) {
        Some(WasmBinaryType::Component) => Program::Component(Component::from_binary(&ENGINE, bytes)?),
        // Also text, which may be either.
        _ => match Module::new(&ENGINE, bytes) {
            Ok(module) => Program::Module(module),
            Err(_) if !bytes.starts_with(b"\0asm") => Program::Component(Component::new(&ENGINE, bytes)?),
            Err(error) => return Err(error.into()),
        },
    })
}

/// What a program is given: the container's arguments, environment, standard streams, network and whole file system.
fn wasi(ctx: &impl RuntimeContext) -> Result<WasiCtxBuilder> {
    let mut builder = WasiCtxBuilder::new();
    builder.args(ctx.args()).inherit_stdio().inherit_network().allow_ip_name_lookup(true);
    for variable in ctx.envs() {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        builder.env(name, value);
    }
    builder.preopened_dir("/", "/", FsPerms::ReadWrite).map_err(anyhow::Error::from).context("cannot open the container's root")?;
    Ok(builder)
}

async fn run_module(module: &Module, function: &str, wasi: WasiP1Ctx) -> wasmtime::Result<i32> {
    let mut linker = wasmtime::Linker::new(&ENGINE);
    p1::add_to_linker_async(&mut linker, |wasi| wasi)?;
    let mut store = Store::new(&ENGINE, wasi);
    let instance = linker.instantiate_async(&mut store, module).await?;
    instance.get_typed_func::<(), ()>(&mut store, function)?.call_async(&mut store, ()).await?;
    Ok(0)
}

struct State {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

async fn run_component(component: &Component, function: &str, wasi: WasiCtx) -> wasmtime::Result<i32> {
    let mut linker = component::Linker::new(&ENGINE);
    p2::add_to_linker_async(&mut linker)?;
    let mut store = Store::new(&ENGINE, State { wasi, table: ResourceTable::new() });
    // `_start` is the library's word for "nothing was named": of a component that is wasi:cli/run.
    if function == "_start" {
        let command = Command::instantiate_async(&mut store, component, &linker).await?;
        let ended = command.wasi_cli_run().call_run(&mut store).await?;
        return Ok(i32::from(ended.is_err()));
    }
    let instance = linker.instantiate_async(&mut store, component).await?;
    instance.get_typed_func::<(), ()>(&mut store, function)?.call_async(&mut store, ()).await?;
    Ok(0)
}

fn main() {
    Wasmtime::run(None);
}
