"""Reads wire/SPEC.md as an implementer would, and holds our frames against its examples and its table of codes."""

import json
import os
import re
import unittest

import runner
import wire

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


def specification():
    with open(os.path.join(ROOT, "wire", "SPEC.md"), encoding="utf-8") as file:
        return file.read()


def vectors(name):
    """Golden bytes for implementers, `wire/tests/vectors/README.md`."""
    with open(os.path.join(ROOT, "wire", "tests", "vectors", name), encoding="utf-8") as file:
        return json.load(file)


def split_one(data):
    """The one frame that `data` holds, as a payload."""
    payloads = wire.Splitter().feed(data)
    if len(payloads) != 1:
        raise wire.Malformed(f"{len(payloads)} frames")
    return payloads[0]


def encoded_again(frame):
    fields = {key: value for key, value in vars(frame).items() if key not in ("name", "flags")}
    return wire.encode(frame.name, frame.flags, **fields)


class Examples(unittest.TestCase):
    """The examples of the specification, decoded and encoded again."""

    def test_every_example_is_what_its_table_says(self):
        examples = re.findall(r"`([a-z0-9-]+)`:\s+`((?:[0-9a-f]{2} )+[0-9a-f]{2})`", specification())
        self.assertGreaterEqual(len(examples), 28)
        for name, text in examples:
            with self.subTest(name):
                data = bytes.fromhex(text)
                self.assertEqual(encoded_again(wire.decode(split_one(data))), data)

    def test_every_frame_has_its_number(self):
        """W-TYPE-1: headings and types agree."""
        for name, number in re.findall(r"([A-Z_]{3,}) \(0x([0-9a-f]{2})\)", specification()):
            with self.subTest(name):
                self.assertEqual(wire.TYPES[name], int(number, 16))

    def test_every_code_has_its_numbers(self):
        """W-CODE-1."""
        rows = re.findall(r"^\| *(\d+) *\| *`?([A-Z0-9_]+)`? *\|.*", specification(), re.M)
        rows = [(int(number), name) for number, name in rows if hasattr(wire.Code, name)]
        self.assertEqual(len(rows), len([name for name in vars(wire.Code) if name.isupper()]))
        for number, name in rows:
            with self.subTest(name):
                self.assertEqual(getattr(wire.Code, name), number)


class Vectors(unittest.TestCase):
    """The golden bytes, read by an implementation that shares nothing with the one that made them."""

    def test_valid_frames_are_read_and_written(self):
        for row in vectors("valid.json"):
            if row["name"].startswith("later-"):
                continue  # to be read, never to be written; our decoder takes nothing that version 1 lacks
            with self.subTest(row["name"]):
                data = bytes.fromhex(row["hex"])
                frame = wire.decode(split_one(data))
                self.assertEqual(frame.name, row["type"])
                self.assertEqual(encoded_again(frame), data)

    def test_unknown_frames_are_skipped(self):
        """W-TYPE-3."""
        for row in vectors("unknown.json"):
            with self.subTest(row["name"]):
                self.assertIsNone(wire.decode(split_one(bytes.fromhex(row["hex"]))))

    def test_varints(self):
        """W-VAR-1, W-VAR-2."""
        for row in vectors("varint.json"):
            data = bytes.fromhex(row["hex"])
            with self.subTest(row["hex"]):
                if "error" in row:
                    with self.assertRaises(wire.Malformed):
                        wire.get_varint(wire.Reader(data))
                else:
                    self.assertEqual(wire.put_varint(int(row["value"])), data)
                    self.assertEqual(wire.get_varint(wire.Reader(data)), int(row["value"]))


if __name__ == "__main__":
    runner.main()
