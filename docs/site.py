"""What the site's build does beside MkDocs: files of the repository that pages link to are part of the site."""

import io
import re
import warnings
from contextlib import redirect_stdout, suppress
from pathlib import Path

from mkdocs.structure.files import File

from versatile_influence.cli.parsers import command_line, parsed

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"\]\(\.\./(?=[^)#]+\))")


def on_startup(**_):
    """Let warnings of the gallery's scripts be words without the paths of this machine, and without PyTorch's own."""
    warnings.formatwarning = lambda message, category, *_: f"{category.__name__}: {message}\n"
    warnings.filterwarnings("ignore", message="`torch.jit.script", category=DeprecationWarning)


def shell():
    """Return the page of the command's own words."""
    text = command_line().format_help()
    pages = [f"# Command line\n\n```text\n{text}```"]
    for name in re.findall(r"^    (\w+)\s", text, flags=re.M):
        words = io.StringIO()
        with redirect_stdout(words), suppress(SystemExit):
            parsed([name, "--help"])
        pages.append(f"## vif {name}\n\n```text\n{words.getvalue()}```")
    return "\n\n".join(pages)


def on_files(files, config):
    """Add the command's own words, and what pages link to outside of their folder."""
    files.append(File.generated(config, "shell.md", content=shell()))
    linked = {
        link
        for page in files.documentation_pages()
        for link in re.findall(LINK.pattern + r"([^)#]+)", page.content_string)
    }
    for link in sorted(linked):
        if (ROOT / link).is_file():
            files.append(File.generated(config, f"files/{link}", abs_src_path=str(ROOT / link)))
    return files


def on_page_markdown(markdown, **_):
    """Let links lead to it; the gallery's pictures are beside their pages, which are files here and no folders."""
    return LINK.sub("](files/", markdown).replace('srcset="../images/', 'srcset="images/')
