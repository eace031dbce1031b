"""Machine code of the functions: where it is found, how it gets there, and what is loaded and what isn't."""

import struct
import subprocess
from functools import partial
from types import SimpleNamespace
from typing import Annotated, get_args, get_origin, get_type_hints

import numpy as np
import pytest

from tests.unit.onnx_worker.compiled.models import MODELS, SEEING, chunk, compiled, decode, take_in
from workers.onnx_worker.compiled import machine_code, object_file
from workers.onnx_worker.compiled.machine_code import ensure, find
from workers.onnx_worker.compiled.object_file import load
from workers.onnx_worker.compiled.shapes import ARGUMENTS
from workers.onnx_worker.compiled.team import Team, flattened


@pytest.fixture
def home(package, tmp_path):
    """A store, for functions that there is no code of."""
    return tmp_path / "home"


@pytest.fixture
def put(code):
    """Puts code of the functions into a folder."""
    return partial(write, code.read_bytes())


def write(content, folder):
    file = folder / "machine-code" / f"{machine_code._digest()}.o"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    return file


def test_code_lies_in_the_store_or_beside_the_functions(package, home, put):
    assert find(home) is None
    kept = put(home)
    assert find(home) == kept
    beside = put(package)
    assert find(home) == beside


def test_code_of_other_functions_is_not_found(home, put):
    put(home).rename(home / "machine-code" / f"{'0' * 16}.o")
    assert find(home) is None


def test_code_that_is_found_is_not_compiled(home, compiler, put):
    compiler("raise SystemExit(1)")
    kept = put(home)
    assert ensure(home) == kept


@pytest.mark.parametrize("left", [b"", b"half"])
def test_damaged_code_is_compiled_anew(home, compiler, code, left):
    write(left, home)
    compiler(f"new.write_bytes(pathlib.Path({str(code)!r}).read_bytes())")
    assert ensure(home).read_bytes() == code.read_bytes()


def test_without_a_compiler_there_is_what_is_found(home, monkeypatch, put):
    monkeypatch.setattr(machine_code, "find_spec", lambda name: None)
    assert ensure(home) is None
    assert not home.exists()
    kept = put(home)
    assert ensure(home) == kept


def test_what_is_compiled_is_kept(home, compiler, code):
    compiler(f"new.write_bytes(pathlib.Path({str(code)!r}).read_bytes())")
    kept = ensure(home)
    assert kept == find(home)
    assert kept.read_bytes() == code.read_bytes()
    assert not (home / "machine-code" / "new").exists()
    compiler("raise SystemExit(1)")
    assert ensure(home) == kept


@pytest.mark.parametrize("written", ["", "new.write_bytes(b'half')\n"])
def test_nothing_half_written_is_kept(home, compiler, written):
    compiler(written + "raise SystemExit(1)")
    with pytest.raises(subprocess.CalledProcessError):
        ensure(home)
    assert [path.name for path in (home / "machine-code").iterdir()] == ["lock"]


def test_what_cannot_be_loaded_is_not_kept(home, compiler):
    compiler("new.write_bytes(b'half')")
    with pytest.raises(ValueError, match="no ELF object"):
        ensure(home)
    assert find(home) is None


def test_other_functions_have_another_digest(package):
    digest = machine_code._digest()
    (package / "team.py").write_text("", encoding="utf-8")
    assert machine_code._digest() == digest
    seen = {digest}
    for source in (*(package / "functions").glob("*.py"), package / "shapes.py"):
        with source.open("a", encoding="utf-8") as file:
            file.write("\n")
        seen.add(machine_code._digest())
    assert len(seen) == 2 + len(list((package / "functions").glob("*.py")))


def test_numbers_have_64_bits_each():
    assert list(flattened(-3)) == [-3]
    assert list(flattened(np.int64(2**62))) == [2**62]
    assert [list(flattened(value)) for value in (True, False, np.True_)] == [[1], [0], [1]]
    for value in (np.float32(1.5), np.float32(-1e-5)):
        assert list(flattened(value)) == [int.from_bytes(value.tobytes(), "little")]


@pytest.mark.parametrize(
    ("shape", "dtype", "strides"),
    [((5,), "u1", (1,)), ((3, 4), "f4", (16, 4)), ((2, 3, 4), "i8", (96, 32, 8)), ((1, 7), "f4", (28, 4))],
)
def test_arrays_are_taken_apart(shape, dtype, strides):
    array = np.empty(shape, dtype)
    expected = [0, 0, array.size, array.itemsize, array.ctypes.data, *shape, *strides]
    assert list(flattened(array)) == expected


def test_tuples_are_taken_apart():
    array = np.empty(3, np.int32)
    parts = list(flattened(array))
    assert list(flattened((1, (np.float32(0), (array, True)), (), 7))) == [1, 0, *parts, 1, 7]


@pytest.fixture(params=[*MODELS, SEEING])
def steps(request, artefacts, code, monkeypatch):
    """Arguments of all steps of a model, and the table of each."""
    given, tables, run = [], [], Team.run

    def recorded(team, first, last, rows, room):
        entry = team._entry
        monkeypatch.setattr(team, "_entry", lambda table: (tables.append(table), entry(table)))
        run(team, first, last, rows, room)
        monkeypatch.setattr(team, "_entry", entry)
        counters = np.zeros(team._counter_bytes, np.uint8)
        given.append((first, last, *team._model, rows, room.scratch, counters, 0, 1))

    monkeypatch.setattr(Team, "run", recorded)
    backend = compiled(artefacts[request.param], code, threads=1)
    take_in(backend, chunk(0, range(10, 30)), chunk(1, range(10, 13)))
    decode(backend, (20, 5), (3, 6, 7))
    return given, tables


def assert_is(value, kind):
    """Numba compiles for one kind of array: one that differs would be read wrongly."""
    if get_origin(kind) is Annotated:
        array, axes = get_args(kind)
        assert value.dtype == get_args(get_args(array)[1])[0]
        assert value.ndim == axes
        assert value.flags.c_contiguous
        assert value.flags.aligned
    elif hasattr(kind, "_fields"):
        hints = get_type_hints(kind, include_extras=True)
        assert isinstance(value, kind)
        for field in kind._fields:
            assert_is(getattr(value, field), hints[field])
    else:
        assert isinstance(value, (int, np.integer) if kind is int else kind)


def test_steps_are_given_what_the_functions_are_compiled_for(steps):
    given, _ = steps
    assert len(given) == 3
    for arguments in given:
        for value, kind in zip(arguments, ARGUMENTS, strict=True):
            assert_is(value, kind)


def test_a_table_has_a_place_for_each_part(steps):
    pytest.importorskip("numba")
    from numba.core.registry import cpu_target  # noqa: PLC0415  # perhaps not installed

    from workers.onnx_worker.compiled.functions.assemble import _entry, _type_of  # noqa: PLC0415

    kinds = tuple(_type_of(kind) for kind in ARGUMENTS)
    parts = cpu_target.target_context.get_arg_packer(kinds).argument_types
    function = SimpleNamespace(arguments=[SimpleNamespace(type=kind) for kind in ("ptr", "ptr", *parts)])
    read = _entry("step", function).count("getelementptr")
    given, tables = steps
    assert [len(table) for table in tables] == [read] * 3
    assert [len(list(flattened(arguments))) for arguments in given] == [read] * 3


@pytest.fixture
def changed(code, tmp_path):
    """The code with other bytes in the place of some, which are there once."""

    def change(old, new):
        content = code.read_bytes()
        assert content.count(old) == 1
        file = tmp_path / "changed.o"
        file.write_bytes(content.replace(old, new))
        return file

    return change


@pytest.mark.parametrize("content", [b"", b"MZ", bytes(5000), b"!<arch>\n" + bytes(100)])
def test_what_is_no_object_is_not_loaded(content, tmp_path):
    file = tmp_path / "other.o"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="no ELF object"):
        load(file)


@pytest.mark.parametrize("length", [4, 50, 64, 5000, -640, -64, -1])
def test_what_is_cut_off_is_not_loaded(code, length, tmp_path):
    file = tmp_path / "cut.o"
    file.write_bytes(code.read_bytes()[:length])
    with pytest.raises(ValueError):  # noqa: PT011  # of Python's own
        load(file)


@pytest.mark.parametrize("name", [b"sched_yield", b"memset"])
def test_unknown_functions_are_not_called(changed, name):
    file = changed(b"\0" + name + b"\0", b"\0" + name[:-1] + b"_\0")
    with pytest.raises(ValueError, match="what is not there"):
        load(file)


def test_an_object_without_the_entry_is_not_loaded(changed):
    file = changed(b"\0diplex_run\0", b"\0diplex_ran\0")
    with pytest.raises(ValueError):  # noqa: PT011
        load(file)


def relocation_of(code, name):
    """The bytes of the first relocation of a function outside, and its number."""
    loaded = object_file._Loaded(code.read_bytes())
    (table,) = (section for section in loaded._sections if section.kind == object_file._SYMBOLS)
    names = loaded._sections[table.link].offset
    offsets = struct.iter_unpack("<I20x", loaded._file[table.offset : table.offset + table.size])
    (symbol,) = (
        number
        for number, (offset,) in enumerate(offsets)
        if loaded._file[names + offset :].startswith(name + b"\0")
    )
    for section in loaded._sections:
        if section.kind == object_file._RELOCATIONS:
            end = section.offset + section.size
            for start in range(section.offset, end, section.entry_size):
                if struct.unpack_from("<8xQ", loaded._file, start)[0] >> 32 == symbol:
                    return loaded._file[start : start + section.entry_size], symbol
    raise AssertionError(name)


def other_kind(relocation, kind):
    offset, info, addend = struct.unpack("<QQq", relocation)
    return struct.pack("<QQq", offset, info >> 32 << 32 | kind, addend)


@pytest.mark.parametrize("kind", [2, 4, 10, 42])  # addresses of 32 bits, of tables that a linker makes
def test_unknown_relocations_are_not_carried_out(code, changed, kind):
    relocation, symbol = relocation_of(code, b"sched_yield")
    file = changed(relocation, other_kind(relocation, kind))
    with pytest.raises(ValueError, match=f"relocation {kind}, symbol {symbol}"):
        load(file)


def test_unknown_functions_are_not_called_by_their_distance(code, changed, tmp_path):
    relocation, _ = relocation_of(code, b"sched_yield")
    file = changed(relocation, other_kind(relocation, 24))
    file.write_bytes(file.read_bytes().replace(b"\0sched_yield\0", b"\0sched_yielt\0"))
    with pytest.raises(ValueError, match="what is not there"):
        load(file)


def test_a_file_that_is_not_there_is_not_loaded(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.o")


@pytest.mark.slow
def test_code_is_the_same_whenever_it_is_compiled(code, tmp_path):
    pytest.importorskip("numba")
    assert ensure(tmp_path).read_bytes() == code.read_bytes()
