"""Pages with messages of sinks, shown as the documentation of each service describes."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any, Final

FONTS: Final = """
<link rel="stylesheet" href="node_modules/@fontsource/roboto/400.css">
<link rel="stylesheet" href="node_modules/@fontsource/roboto/700.css">
"""
PAGE: Final = f"""\
<!doctype html><meta charset="utf-8">
{FONTS}
<style>
  body {{{{ margin: 0; font: 15px/1.45 Roboto, 'Noto Color Emoji' }}}}
  * {{{{ box-sizing: border-box }}}}
  a {{{{ text-decoration: none }}}}
  {{style}}
</style>
<body>{{body}}</body>
"""
SLACK_STYLE: Final = """
  .message { padding: 10px 16px; color: #1d1c1d }
  .message > b::after { content: ' APP'; font: 10px Roboto; color: #616061 }
  .attachment { margin: 6px 0 0; border-left: 4px solid; border-radius: 4px;
    padding: 2px 0 2px 12px }
  .attachment > * { color: #1d1c1d }
  .attachment a { color: #1264a3; font-weight: 700; display: block }
  .fields { display: grid; grid-template-columns: 1fr 1fr; gap: 6px 16px; margin-top: 6px }
"""
DISCORD_STYLE: Final = """
  body { background: #313338; color: #dbdee1 }
  .message { padding: 10px 16px }
  .message > b { color: #f2f3f5 }
  .message > b::after { content: 'APP'; font: 10px Roboto; background: #5865f2; padding: 1px 4px;
    border-radius: 4px; margin-left: 6px }
  .embed { background: #2b2d31; border-left: 4px solid; border-radius: 4px; margin-top: 6px;
    padding: 10px 14px; max-width: 520px; font-size: 14px }
  .embed > * { color: #dbdee1 }
  .embed a { color: #00a8fc }
  .fields { display: grid; grid-template-columns: repeat(3, 1fr); gap: 8px; margin-top: 8px }
"""
GOOGLE_CHAT_STYLE: Final = """
  body { background: #f8fafd; color: #1f1f1f }
  .message { padding: 10px 16px }
  .message > b::after { content: ' App'; font: 10px Roboto; color: #5e5e5e }
  .card { background: #fff; border: 1px solid #dadce0; border-radius: 8px; margin-top: 6px;
    padding: 4px 16px; font-size: 14px }
  .card > div { padding: 6px 0 }
  small { display: block; color: #5e5e5e; font-size: 12px }
  .button { display: inline-block; background: #e9eef6; border-radius: 16px; padding: 4px 14px;
    color: #0b57d0 }
"""
TEAMS_STYLE: Final = """
  body { background: #f5f5f5 }
  .card { background: #fff; border: 1px solid #d1d1d1; border-radius: 4px; margin: 12px 16px }
  .ac-pushButton { font: 14px Roboto; padding: 6px 16px; border: 1px solid #d1d1d1;
    border-radius: 4px; background: #fff }
"""
TEAMS_SCRIPT: Final = """
<script src="node_modules/adaptivecards/dist/adaptivecards.js"></script>
<script>
  const config = {config};
  window.problems = [];
  for (const content of {cards}) {{
    const card = new AdaptiveCards.AdaptiveCard();
    const context = new AdaptiveCards.SerializationContext();
    card.hostConfig = new AdaptiveCards.HostConfig(config);
    card.parse(content, context);
    for (let i = 0; i < context.eventCount; i++) problems.push(context.getEventAt(i).message);
    for (const event of card.validateProperties().validationEvents) problems.push(event.message);
    const shown = document.createElement('div');
    shown.className = 'card';
    shown.append(card.render());
    document.body.append(shown);
  }}
</script>
"""
TEAMS_CONFIG: Final = {
    "fontFamily": "Roboto, Noto Color Emoji",
    "containerStyles": {
        "good": {"backgroundColor": "#e7f2da"},
        "attention": {"backgroundColor": "#f9d9d9"},
        "warning": {"backgroundColor": "#fbf6d9"},
        "emphasis": {"backgroundColor": "#f5f5f5"},
    },
}
"""Colors like those of Teams, which each client chooses itself."""
DISCORD_TOKEN: Final = re.compile(r"\\(?P<plain>\W)|\[(?P<text>[^]]*)\]\(<(?P<url>[^>]*)>\)")


def slack_page(messages: Iterable[Mapping[str, Any]]) -> str:
    """Return messages of incoming webhooks, whose texts have three escapes and no markup."""
    body = "".join(
        _message(message["text"] + "".join(map(_slack_attachment, message.get("attachments", ()))))
        for message in messages
    )
    return PAGE.format(style=SLACK_STYLE, body=body)


def _message(html: str) -> str:
    return f'<div class="message"><b>sutro-poller</b><br>{html}</div>'


def _slack_attachment(attachment: Mapping[str, Any]) -> str:
    link, text = attachment.get("title_link"), attachment.get("text", "")
    title = f'<a href="{link}">{attachment["title"]}</a>' if link else ""
    fields = [(field["title"], field["value"]) for field in attachment["fields"]]
    html = title + _div("text", text.replace("\n", "<br>")) + _fields(fields)
    return f'<div class="attachment" style="border-color: {attachment["color"]}">{html}</div>'


def _div(name: str, html: str) -> str:
    return f'<div class="{name}">{html}</div>' if html else ""


def _fields(fields: Iterable[tuple[str, str]]) -> str:
    return _div(
        "fields", "".join(f"<div><b>{title}</b><br>{value}</div>" for title, value in fields)
    )


def discord_page(messages: Iterable[Mapping[str, Any]]) -> str:
    """Return messages of webhooks, whose Markdown consists of escapes and links."""
    body = "".join(
        _message(_markdown(message["content"]) + "".join(map(_embed, message.get("embeds", ()))))
        for message in messages
    )
    return PAGE.format(style=DISCORD_STYLE, body=body)


def _embed(embed: Mapping[str, Any]) -> str:
    fields = [(field["name"], _markdown(field["value"])) for field in embed.get("fields", ())]
    html = _div("text", _markdown(embed.get("description", ""))) + _fields(fields)
    return f'<div class="embed" style="border-color: #{embed["color"]:06x}">{html}</div>'


def _markdown(text: str) -> str:
    return "".join(_markdown_parts(text)).replace("\n", "<br>")


def _markdown_parts(text: str) -> Iterator[str]:
    end = 0
    for token in DISCORD_TOKEN.finditer(text):
        yield escape(text[end : token.start()])
        link = token["text"] and f'<a href="{escape(token["url"])}">{escape(token["text"])}</a>'
        yield link or escape(token["plain"])
        end = token.end()
    yield escape(text[end:])


def googlechat_page(messages: Iterable[Mapping[str, Any]]) -> str:
    """Return messages with cards, whose texts are HTML."""
    cards = (card["card"] for message in messages for card in message["cardsV2"])
    body = "".join(
        _message(_div("card", "".join(map(_widget, section["widgets"]))))
        for card in cards
        for section in card["sections"]
    )
    return PAGE.format(style=GOOGLE_CHAT_STYLE, body=body)


def _widget(widget: Mapping[str, Any]) -> str:
    match widget:
        case {"textParagraph": {"text": html}}:
            return f"<div>{html}</div>"
        case {"decoratedText": {"topLabel": label, "text": html}}:
            return f"<div><small>{escape(label)}</small>{html}</div>"
        case {"buttonList": {"buttons": [{"text": text}]}}:
            return f'<div><span class="button">{escape(text)}</span></div>'
    raise ValueError(widget)


def teams_page(messages: Iterable[Mapping[str, Any]]) -> str:
    """Return cards, which Microsoft's own renderer shows; `problems` is what it finds wrong."""
    cards = [message["attachments"][0]["content"] for message in messages]
    script = TEAMS_SCRIPT.format(
        config=json.dumps(TEAMS_CONFIG), cards=json.dumps(cards).replace("<", "\\u003c")
    )
    return PAGE.format(style=TEAMS_STYLE, body=script)
