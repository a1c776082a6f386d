"""Runs unittest cases and closes with `N passed, N failed`, the line that `./x` adds up."""

import logging
import sys
import unittest


def main(module="__main__"):
    """Runs the tests of a module, or those named on the command line."""
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # unittest's debug mode reports every slow callback
    loader = unittest.defaultTestLoader
    names = sys.argv[1:]
    suite = loader.loadTestsFromNames(names, sys.modules[module]) if names else loader.loadTestsFromName(module)
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    print(f"{max(result.testsRun - failed, 0)} passed, {failed} failed", flush=True)
    sys.exit(0 if result.wasSuccessful() and result.testsRun else 1)
