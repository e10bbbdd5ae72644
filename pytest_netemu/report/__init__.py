"""The conformance report: events as they happen, one JSON document folded from them, and views of it.

`events.jsonl` is written by the controller while the run goes on, a flushed line an event, so that a crash loses nothing.
`netemu-conformance.json` is a fold over it (`fold`), validated by `netemu-conformance-1.schema.json` beside this module;
the HTML page and the Markdown summary are views of that document and of nothing else.
"""
