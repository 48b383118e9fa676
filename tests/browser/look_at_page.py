"""The page of maps in a real Chromium, from disk: python tests/browser/look_at_page.py MAPS [OUT]

MAPS is a folder that `salakseg predict` wrote. Every map is opened, moved, zoomed and read, by key
and by pointer, and the program fails where something could not be loaded, an error was raised, or
nothing was said of what is under the pointer. Pictures of list and maps, large and as on a phone,
go to OUT. Not part of the suite, which has no browser; `apt-get install chromium`.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

STEPS = """
(async () => {
  const wait = (test) => new Promise((done) => {
    const end = Date.now() + 5000;
    const look = () => (test() || Date.now() > end ? done(test()) : setTimeout(look, 20));
    look();
  });
  const key = (name) => document.activeElement.dispatchEvent(
    new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true }));
  const $ = (id) => document.getElementById(id);
  const complete = () => ["image", "classes"].every((id) => $(id).children.length
    && [...$(id).children].every((one) => one.complete && one.naturalWidth));
  const check = (what, held) => { if (!held) failures.push(what + ", " + $("title").textContent); };
  const maps = [], failures = [];
  try {
    const cards = [...document.querySelectorAll("a[data-name]")];
    if (cards.length) cards[0].click();
    for (const card of cards) {
      check("loads", await wait(() => $("title").textContent === card.dataset.name
        && $("legend").children.length && complete()));
      const box = $("stage").getBoundingClientRect(), said = [], levels = [];
      const point = (kind, x, y, more) => $("stage").dispatchEvent(new PointerEvent(kind, {
        clientX: box.left + x, clientY: box.top + y, bubbles: true, pointerId: 1, ...more }));
      const [width, height] = [box.width, box.height];
      for (const by of ["+", "+", "+", "ArrowLeft", "ArrowUp", "-"]) {
        key(by);
        await new Promise((done) => setTimeout(done, 60));
        check("tiles after " + by, await wait(complete));
        point("pointermove", width / 2, height / 2);
        said.push($("reading").textContent);
        levels.push($("classes").children.length);
      }
      check("says class and confidence", said.some((one) => /, confidence \\d+ %$/.test(one)));
      const clip = () => $("classes").style.clipPath, before = clip();
      key(" ");
      check("space flips", await wait(() => clip() !== before));
      key(" ");
      await new Promise((done) => setTimeout(done, 100));
      const sources = () => [...$("classes").children].map((one) => one.src).sort().join();
      const all = sources();
      $("legend").querySelector("input").click();
      check("a class is hidden", await wait(() => sources() !== all && complete()));
      $("legend").querySelector("input").click();
      check("and shown", await wait(() => sources() === all && complete()));
      $("stage").dispatchEvent(new WheelEvent("wheel", { deltaY: -200, clientX: box.left + 9,
        clientY: box.top + 9, cancelable: true, bubbles: true }));
      check("wheel", await wait(complete));
      maps.push({ name: card.dataset.name, said: [...new Set(said)], tiles: levels });
      key("n");
    }
    key("Escape");
    check("back to the list", await wait(() => !$("list").hidden && $("map").hidden));
  } catch (error) { failures.push(String(error.stack)); }
  return { failures, maps };
})()
"""
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run")


class Chromium:
    """A page in Chromium, told what to do through pipes; `failures` are of all that it loaded."""

    def __init__(self, profile: str) -> None:
        # It reads what it is told from 3, and answers on 4.
        pipes = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (*os.pipe(), *os.pipe())]
        script = f'exec "$@" 3<&{pipes[0]} 4>&{pipes[3]}'
        self.process = subprocess.Popen(
            ["bash", "-c", script, "bash", *command(profile, "--remote-debugging-pipe")],
            pass_fds=(pipes[0], pipes[3]),
            stderr=subprocess.DEVNULL,
        )
        os.close(pipes[3])
        self.to, self.back = os.fdopen(pipes[1], "wb", 0), os.fdopen(pipes[2], "rb")
        self.failures: list[str] = []
        self.session: dict[str, str] = {}
        self.number = 0
        target = self.do("Target.createTarget", url="about:blank")["targetId"]
        session = self.do("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.session = {"sessionId": session}
        for domain in ("Page", "Network", "Runtime"):
            self.do(f"{domain}.enable")

    def do(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What it answers."""
        self.number += 1
        call = {"id": self.number, "method": method, "params": parameters, **self.session}
        self.to.write(json.dumps(call).encode() + b"\0")
        while True:
            content = b""
            while not content.endswith(b"\0"):
                content += self.back.read(1) or sys.exit("Chromium has ended")
            message = json.loads(content[:-1])
            bad = message.get("method") in ("Network.loadingFailed", "Runtime.exceptionThrown")
            # What a page that is left had not loaded yet is no failure.
            if bad and not message["params"].get("canceled"):
                self.failures.append(json.dumps(message["params"]))
            if message.get("id") == self.number:
                if "error" in message:
                    sys.exit(f"{method}: {message['error']}")
                return dict(message["result"])

    def run(self, script: str) -> Any:
        """What the script comes to."""
        found = self.do(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in found:
            sys.exit(json.dumps(found["exceptionDetails"]))
        return found["result"].get("value")


def command(profile: str, *options: str) -> list[str]:
    """What starts it."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        sys.exit("needs chromium")
    return [program, *OPTIONS, f"--user-data-dir={profile}", *options]


def main() -> None:
    """See above."""
    folder = Path(sys.argv[1]).resolve()
    out = Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp()).resolve()
    out.mkdir(parents=True, exist_ok=True)
    address = (folder / "index.html").as_uri()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Chromium(profile)
        browser.do("Page.navigate", url=address)
        browser.run("new Promise((done) => setTimeout(done, 1000))")
        result = browser.run(STEPS)
        names = browser.run("[...document.querySelectorAll('a[data-name]')].map((one) => one.hash)")
        browser.do("Browser.close")
        browser.process.wait(20)
    for one in result["maps"]:
        print(f"{one['name']}: {one['tiles']} tiles; {' | '.join(one['said'])}")
    for size, width, height in (("large", 1300, 850), ("phone", 500, 900)):
        for number, name in enumerate(["", *names[:3]]):
            picture = out / f"{size}-{number}.png"
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
                options = [f"--window-size={width},{height}", "--virtual-time-budget=8000"]
                options += [f"--screenshot={picture}", address + name]
                subprocess.run(command(profile, *options), capture_output=True, timeout=60)
            print(picture)
    failures = result["failures"] + browser.failures
    if failures or len(result["maps"]) != len(names):
        sys.exit("\n".join(failures or ["not all maps were seen"]))


if __name__ == "__main__":
    main()
