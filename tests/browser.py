"""Debian's Chromium without a screen, driven by Debian's chromium-driver."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
PHONE = (390, 844)
DESKTOP = (1440, 900)


def missing() -> str | None:
    return None if CHROMIUM and DRIVER else "needs Debian packages chromium and chromium-driver"


class Browser:
    """One page, as a person sees it."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        self.size()
        self.scheme("light")

    def size(self, width: int = DESKTOP[0], height: int = DESKTOP[1]) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width <= PHONE[0]}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def scheme(self, name: str) -> None:
        """What the system prefers: light or dark."""
        # Without smooth scrolling: what is clicked must stand still.
        wishes = {"prefers-color-scheme": name, "prefers-reduced-motion": "reduce"}
        features = [{"name": wish, "value": value} for wish, value in wishes.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def open(self, address: str) -> None:
        """A page of its own, even where only the part after # differs."""
        self.driver.get("about:blank")
        self.driver.get(address)

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return self.find(selector).text

    def texts(self, selector: str) -> list[str]:
        return [element.text for element in self.driver.find_elements(By.CSS_SELECTOR, selector)]

    def press(self, *keys: str) -> None:
        """Keys, to whatever has the focus."""
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def run(self, script: str, *arguments: Any) -> Any:
        """The value of a JavaScript expression, which may be a promise."""
        script = f"const done = arguments[arguments.length - 1]; Promise.resolve({script}).then(done)"
        return self.driver.execute_async_script(script, *arguments)

    def wait(self, what: str, found: Callable[[], Any], seconds: float = 60) -> Any:
        """The first true value of `found`; where none comes, the failure says what the page says."""
        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(Exception):  # an element that is being replaced
                if value := found():
                    return value
            assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s; {self.text('main')[:600]}"
            time.sleep(0.1)

    def console(self) -> list[str]:
        """Errors and warnings since the last call."""
        levels = ("SEVERE", "WARNING")
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in levels]


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--disable-gpu", "--no-proxy-server", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    if not os.geteuid():
        options.add_argument("--no-sandbox")  # Chromium refuses to have one as root
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.set_script_timeout(20)
    try:
        yield Browser(driver)
    finally:
        driver.quit()
