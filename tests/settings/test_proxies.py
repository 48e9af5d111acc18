"""NO_PROXY, as other programs read it."""

from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

from hypothesis import given
from hypothesis import strategies as st

from poller.settings.proxies import EnvProxies

NAMES = st.lists(st.sampled_from(["a", "b", "example", "com", "1"]), min_size=1, max_size=4).map(
    ".".join
)
HOSTS = st.one_of(NAMES, st.ip_addresses().map(str))
ENTRIES = st.builds("{}{}".format, st.sampled_from(["", "."]), NAMES)


@given(host=HOSTS, port=st.integers(1, 65_535), entries=st.lists(ENTRIES))
def test_no_proxy_of_names_is_read_as_the_standard_library_reads_it(
    host: str, port: int, entries: list[str]
):
    """For names and domains the result is that of urllib."""
    proxies = EnvProxies.of({"NO_PROXY": ",".join(entries)}, is_replaced=False)
    is_bypassed = bool(proxy_bypass_environment(host, {"no": ",".join(entries)}))

    assert proxies.is_exempt(host, port) == is_bypassed
    assert list(proxies.warnings()) == []


@given(text=st.text(max_size=30), host=HOSTS)
def test_no_proxy_may_contain_anything(text: str, host: str):
    """An entry of another program's form never raises; it is warned of, or it is valid."""
    proxies = EnvProxies.of({"no_proxy": text}, is_replaced=False)

    proxies.is_exempt(host, 443)

    assert len(list(proxies.warnings())) <= len(proxies.exempt)
