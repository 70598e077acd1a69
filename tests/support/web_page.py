"""A page as a browser would see it."""

import html.parser


class Page(html.parser.HTMLParser):
    """What a browser would see: ids, links, sources, tags, and the text outside of style."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.sources, self.tags, self.text = [], [], [], [], ""
        self.feed(path if isinstance(path, str) else path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append(tag)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if "href" in found else []
        self.sources += [found["src"]] if "src" in found else []

    def handle_data(self, data):
        self.text += data
