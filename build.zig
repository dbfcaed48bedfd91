//! Builds libholdfast and runs its C tests.
//!
//!   zig build                         the library of this machine, to <prefix>/native/<name>/
//!   zig build -Dlibrary=linux-arm64   another row of `targets`; -Dlibrary=all builds every row
//!   zig build test                    csrc/tests/*_test.c, each linked with csrc/*.c and run
//!   zig build test-arm64              the same for arm64 Linux and musl, run by qemu-aarch64
//!   zig build unsupported             the library as it is where there is no port (csrc/unsupported.c), for this machine
//!   zig build bench                   bench/c/*.c with csrc/*.c, to <prefix>/bench/holdfast-bench
//!
//! scripts/build.ts calls this file with --prefix build and keeps Zig's caches in .zig-cache.

const std = @import("std");
const builtin = @import("builtin");

/// The one place that pins the Zig version. std.Build changes with every release, so another
/// version is refused here by name instead of failing somewhere below.
const zig_version = std.mem.trim(u8, @embedFile(".zig-version"), " \r\n");

comptime {
    if (!std.mem.eql(u8, builtin.zig_version_string, zig_version))
        @compileError("holdfast is built with Zig " ++ zig_version ++ " (.zig-version), this is " ++ builtin.zig_version_string);
}

const Target = struct {
    /// `process.platform + "-" + process.arch` as Node spells them; the folder name under native/.
    name: []const u8,
    query: std.Target.Query,

    /// What the library's file is called there; lib/native/native.ts knows the same names.
    fn file(target: Target) []const u8 {
        return switch (target.query.os_tag.?) {
            .macos => "libholdfast.dylib",
            .windows => "holdfast.dll",
            else => "libholdfast.so",
        };
    }
};

/// A new target is one row.
const targets = [_]Target{
    .{ .name = "linux-x64", .query = linux(.x86_64, .gnu) },
    .{ .name = "linux-arm64", .query = linux(.aarch64, .gnu) },
    .{ .name = "darwin-x64", .query = macos(.x86_64) },
    .{ .name = "darwin-arm64", .query = macos(.aarch64) },
    .{ .name = "freebsd-x64", .query = .{ .cpu_arch = .x86_64, .os_tag = .freebsd } },
    .{ .name = "win32-x64", .query = .{ .cpu_arch = .x86_64, .os_tag = .windows, .abi = .gnu } },
};

/// macOS 11 is the first for both CPUs; older ones run none of the runtimes.
fn macos(cpu: std.Target.Cpu.Arch) std.Target.Query {
    return .{ .cpu_arch = cpu, .os_tag = .macos, .os_version_min = .{ .semver = .{ .major = 11, .minor = 0, .patch = 0 } } };
}

/// glibc 2.17 is the oldest that Zig ships headers for; nothing newer can then slip in by a header.
fn linux(cpu: std.Target.Cpu.Arch, abi: std.Target.Abi) std.Target.Query {
    return .{
        .cpu_arch = cpu,
        .os_tag = .linux,
        .abi = abi,
        .glibc_version = if (abi == .gnu) .{ .major = 2, .minor = 17, .patch = 0 } else null,
    };
}

const c_flags = [_][]const u8{
    "-std=c17",
    "-D_GNU_SOURCE",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Wconversion",
    "-Werror",
};

pub fn build(b: *std.Build) void {
    const wanted = b.option(
        []const u8,
        "library",
        "Library to build: host (default), all, or a name such as linux-arm64",
    ) orelse "host";

    const sources = list(b, "csrc", ".c");
    var matched = false;
    for (targets) |target| {
        if (!isWanted(b, wanted, target)) continue;
        matched = true;
        const install = b.addInstallFile(
            addLibrary(b, target.query, sources, &.{}),
            b.fmt("native/{s}/{s}", .{ target.name, target.file() }),
        );
        b.getInstallStep().dependOn(&install.step);
    }
    if (!matched)
        b.getInstallStep().dependOn(&b.addFail(b.fmt("no library target is called '{s}'", .{wanted})).step);

    addTests(b, sources);
    addUnsupported(b, sources);
    addBench(b, sources);
}

fn isWanted(b: *std.Build, wanted: []const u8, target: Target) bool {
    if (std.mem.eql(u8, wanted, "all")) return true;
    if (std.mem.eql(u8, wanted, target.name)) return true;
    const host = b.graph.host.result;
    return std.mem.eql(u8, wanted, "host") and
        target.query.cpu_arch == host.cpu.arch and target.query.os_tag == host.os.tag;
}

/// For Linux: compiles against glibc's headers, then links without any libc. The library so has no
/// DT_NEEDED entry and no versioned symbol: mmap, fcntl, memcpy, __tls_get_addr and the others come
/// from the process that loads it, and one file serves glibc and musl.
///
/// macOS and FreeBSD have one libc, which is linked as everybody does. The library of Windows calls
/// nothing; csrc/unsupported.c has the memcpy that the compiler wants.
fn addLibrary(b: *std.Build, query: std.Target.Query, sources: []const []const u8, extra_flags: []const []const u8) std.Build.LazyPath {
    const resolved = b.resolveTargetQuery(query);
    const os = resolved.result.os.tag;
    const library = b.addLibrary(.{
        .name = "holdfast",
        .linkage = .dynamic,
        .use_llvm = true,
        .use_lld = if (os == .macos) null else true, // LLD has no Mach-O here
        .root_module = b.createModule(.{
            .target = resolved,
            .optimize = .fast,
            .link_libc = os == .macos or os == .freebsd,
            .strip = true,
            .pic = true,
        }),
    });
    library.linker_allow_shlib_undefined = os == .linux;
    library.bundle_compiler_rt = false;
    library.bundle_ubsan_rt = false;
    if (os == .windows) library.entry = .disabled; // there is nothing to do when it is loaded

    // GCC and Clang may call libgcc's __aarch64_* helpers for atomics; there is no libgcc here.
    const cpu_flags: []const []const u8 = if (resolved.result.cpu.arch == .aarch64) &.{"-mno-outline-atomics"} else &.{};
    const flags = std.mem.concat(b.allocator, []const u8, &.{ &c_flags, &.{ "-O2", "-fomit-frame-pointer" }, cpu_flags, extra_flags }) catch @panic("OOM");

    for (sources) |source| {
        const object = b.addObject(.{
            .name = std.fs.path.stem(source),
            .root_module = b.createModule(.{
                .target = resolved,
                .optimize = .fast,
                .link_libc = true, // for the headers only; an object links nothing
                .strip = true,
                .pic = true,
                .sanitize_c = .off,
                .stack_protector = false,
                .unwind_tables = .none,
            }),
        });
        object.root_module.addCSourceFile(.{ .file = b.path(source), .flags = flags });
        // As a file, not with addObject: a linked Compile step would hand on its link_libc.
        library.root_module.addObjectFile(object.getEmittedBin());
    }
    return library.getEmittedBin();
}

fn addTests(b: *std.Build, sources: []const []const u8) void {
    const host = b.graph.host.result;
    const step = b.step("test", "Build and run csrc/tests/*_test.c");
    addTestsFor(b, step, sources, linux(host.cpu.arch, if (host.abi.isMusl()) .musl else .gnu), null);
    // musl, since such programs are static and need no arm64 system to run in.
    const step_arm64 = b.step("test-arm64", "Build csrc/tests/*_test.c for arm64 Linux and run them by qemu-aarch64");
    addTestsFor(b, step_arm64, sources, linux(.aarch64, .musl), "qemu-aarch64");
}

/// Test programs link a libc and run with undefined-behaviour checks.
fn addTestsFor(b: *std.Build, step: *std.Build.Step, sources: []const []const u8, query: std.Target.Query, emulator: ?[]const u8) void {
    const target = b.resolveTargetQuery(query);
    const module = b.createModule(.{ .target = target, .optimize = .safe, .link_libc = true, .sanitize_c = .full });
    module.addCSourceFiles(.{ .files = sources, .flags = &c_flags });
    const objects = b.addLibrary(.{ .name = "holdfast-test", .linkage = .static, .root_module = module });

    for (list(b, "csrc/tests", "_test.c")) |source| {
        const program = b.addExecutable(.{
            .name = std.fs.path.stem(source),
            .root_module = b.createModule(.{ .target = target, .optimize = .safe, .link_libc = true, .sanitize_c = .full }),
        });
        program.root_module.addCSourceFile(.{ .file = b.path(source), .flags = &c_flags });
        program.root_module.linkLibrary(objects);
        const run = if (emulator) |command| b.addSystemCommand(&.{command}) else b.addRunArtifact(program);
        if (emulator) |command| {
            run.addArtifactArg(program);
            run.setEnvironmentVariable("HF_TEST_EMULATOR", command);
        }
        run.stdio = .inherit; // also means: run every time, and one after the other
        step.dependOn(&run.step);
    }
}

/// What a machine without a port loads, for a machine that has one: so the tests see what it says.
fn addUnsupported(b: *std.Build, sources: []const []const u8) void {
    const query = linux(b.graph.host.result.cpu.arch, .gnu);
    const install = b.addInstallFile(addLibrary(b, query, sources, &.{"-DHF_NO_SYSTEM"}), "unsupported/libholdfast.so");
    b.step("unsupported", "Build the library without a port").dependOn(&install.step);
}

/// The C side of the benchmarks: one program of the host, optimised as the library is.
fn addBench(b: *std.Build, sources: []const []const u8) void {
    const host = b.graph.host.result;
    const target = b.resolveTargetQuery(linux(host.cpu.arch, if (host.abi.isMusl()) .musl else .gnu));
    const program = b.addExecutable(.{
        .name = "holdfast-bench",
        .root_module = b.createModule(.{ .target = target, .optimize = .fast, .link_libc = true, .sanitize_c = .off }),
    });
    const flags = std.mem.concat(b.allocator, []const u8, &.{ &c_flags, &.{"-O2"} }) catch @panic("OOM");
    program.root_module.addCSourceFiles(.{ .files = list(b, "bench/c", ".c"), .flags = flags });
    program.root_module.addCSourceFiles(.{ .files = sources, .flags = flags });
    const install = b.addInstallFile(program.getEmittedBin(), "bench/holdfast-bench");
    b.step("bench", "Build the C side of the benchmarks").dependOn(&install.step);
}

/// Paths of the files in `folder` whose names end in `suffix`, sorted: the link order must not
/// depend on the file system.
fn list(b: *std.Build, folder: []const u8, suffix: []const u8) []const []const u8 {
    const io = b.graph.io;
    b.dependOnDirectoryContents(b.path(folder)); // a new file reconfigures the build
    var paths: std.ArrayList([]const u8) = .empty;
    var dir = b.root.openDir(io, folder, .{ .iterate = true }) catch |err| switch (err) {
        error.FileNotFound => return paths.items,
        else => std.debug.panic("{s}: {t}", .{ folder, err }),
    };
    defer dir.close(io);
    var entries = dir.iterate();
    while (entries.next(io) catch |err| std.debug.panic("{s}: {t}", .{ folder, err })) |entry| {
        if (entry.kind != .file or !std.mem.endsWith(u8, entry.name, suffix)) continue;
        paths.append(b.allocator, b.fmt("{s}/{s}", .{ folder, entry.name })) catch @panic("OOM");
    }
    std.mem.sort([]const u8, paths.items, {}, struct {
        fn lessThan(_: void, x: []const u8, y: []const u8) bool {
            return std.mem.lessThan(u8, x, y);
        }
    }.lessThan);
    return paths.items;
}
