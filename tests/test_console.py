from io import StringIO

from unmask.console import for_notes

LINE = f"note: [red]a [/path] of :smile: {'words ' * 40}"


def test_a_note_is_one_line_on_stderr_with_its_brackets(capsys):
    for_notes().print(LINE)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"{LINE}\n")


def test_a_log_takes_the_place_of_stderr(capsys):
    log = StringIO()
    for_notes(log).print(LINE)
    assert log.getvalue() == f"{LINE}\n"
    assert capsys.readouterr().err == ""


def test_a_quiet_one_says_nothing(capsys):
    for_notes(quiet=True).print(LINE)
    assert capsys.readouterr().err == ""
