"""Command lines of every command, with flags and values that may be anything."""

import itertools

from hypothesis import example, given, settings
from hypothesis import strategies as st

from allora_lab.cli import _parser
from allora_lab.flags import SAID_ELSEWHERE
from allora_lab.methods import METHODS
from allora_lab.run_options import config_of

from .outcome import NUMBERS, command_ends_well, empty_folder, speaks_or_succeeds, texts

COMMANDS = ("run", "plan", "sweep", "status", "tables", "figure", "data", "demo")


def flags_of(command: str) -> list[str]:
    (commands,) = (a for a in _parser()._actions if a.choices and "run" in a.choices)
    return [f for f in commands.choices[command]._option_string_actions if f != "--help"]


values = texts | NUMBERS.map(str) | st.sampled_from(list(METHODS))


def words_of(command: str) -> st.SearchStrategy[list[str]]:
    known = st.sampled_from([*flags_of(command), *SAID_ELSEWHERE])
    flag = known | known.map(lambda name: name[:-1]) | texts
    one = st.tuples(flag, values).map(list)
    joined = st.tuples(known, values).map(lambda pair: [f"{pair[0]}={pair[1]}"])
    return st.lists(one | joined | values.map(lambda v: [v]), max_size=4).map(
        lambda parts: [*itertools.chain(*parts)]
    )


@settings(max_examples=5 * settings().max_examples)
@given(words=words_of("run"), method=st.sampled_from([None, *METHODS]))
@example(words=["--seed", "9" * 23], method="lora")
@example(words=["--eta-squared", "-0.0"], method="allora")
@example(words=["--epochs", "1e308"], method="lora")
def test_flags_of_run_are_a_configuration_or_one_sentence(words, method):
    words = ["run", *([] if method is None else ["--method", method]), *words]
    read, codes = [], []

    def configure():
        try:
            read.append(config_of(_parser().read(words)))
        except SystemExit as error:
            codes.append(error.code)

    with empty_folder():
        speaks_or_succeeds(configure)
    assert set(codes) <= {0, 2}
    for config in read:
        assert len(config.run_id.encode()) < 240


SHORT = ["--steps", "2", "--train-size", "16", "--eval-size", "8", "--max-length", "8"]
SHORT += ["--batch-size", "4", "--model", "minilm", "--dataset", "rotten_tomatoes_rated"]
CHANGED = ["--r", "--lr", "--head-lr", "--lora-alpha", "--lora-dropout", "--eta-squared", "--seed"]
CHANGED += ["--target-modules", "--weight-decay", "--clip-norm", "--warmup-steps", "--eval-every"]
CHANGED += ["--gradient-accumulation-steps", "--device", "--dtype", "--schedule", "--optimizer"]


@settings(max_examples=max(3, settings().max_examples // 10))
@given(
    method=st.sampled_from(list(METHODS)),
    flag=st.sampled_from(CHANGED),
    value=values | st.sampled_from(["1", "2", "0.5", "1e30", "1e-30"]),
)
@example(method="lora", flag="--lr", value="1e30")
def test_a_short_run_ends_well(method, flag, value):
    with empty_folder() as folder:
        words = ["run", "--method", method, *SHORT, flag, value, "--out", str(folder / "out")]
        if flag == "--gradient-accumulation-steps" and len(value) > 1:
            return  # a valid large number is a long run
        status = command_ends_well(words, folder / "out")
        if status == 0:
            assert len(list((folder / "out").iterdir())) == 1


@given(command=st.sampled_from(COMMANDS[1:]), data=st.data())
def test_flags_of_other_commands_end_well(command, data):
    words = data.draw(words_of(command))
    is_long = (command in ("demo", "figure") and "--help" not in words) or "--fetch" in words
    is_long |= command in ("data", "tables", "status")  # which without arguments read everything
    with empty_folder():
        if is_long:
            words = [*words, "--no-such-flag"]
        command_ends_well([command, *words])
