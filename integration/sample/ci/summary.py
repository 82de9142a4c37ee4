"""Prints the figures of a junit report in one line, for the end of a job's log."""

import sys
from xml.etree import ElementTree

suite = ElementTree.parse(sys.argv[1]).getroot().find("testsuite").attrib
print("{tests} tests, {failures} failures, {errors} errors in {time} s".format(**suite))
