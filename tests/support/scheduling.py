"""Which tests pytest-xdist gives to the same worker."""

from xdist.scheduler import LoadFileScheduling

# They look at the one system of tests/e2e, which takes as long to start as most of them to run.
OF_ONE_SYSTEM = ("tests/e2e/test_browser.py", "tests/e2e/test_click_to_push.py", "tests/e2e/test_keyboard.py")


class WholeFiles(LoadFileScheduling):  # type: ignore[misc]  # it ships no type information
    """Files as a whole, because their fixtures are made once for each; the files of one system together."""

    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        return OF_ONE_SYSTEM[0] if file in OF_ONE_SYSTEM else file
