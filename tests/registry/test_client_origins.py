"""Addresses as registries write them: the usual way of reading them says what the careful one says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.errors import RegistryError
from registry_pipelines.registry.client import origins

hosts = st.sampled_from(
    ["a.example.com", "a.example.com:5000", "[::1]:80", "127.0.0.1", "a:99999", "A.b", "a:b@c", ":1"]
)
paths = st.text("/?#%=&.:@ aZ0\t\né\\\"'", max_size=20)


def read(how, url):
    try:
        return how(url)
    except RegistryError as error:
        return error.what


@given(st.sampled_from(["http://", "https://", "HTTP://", "ftp://", ""]), hosts, paths)
def test_both_ways_of_reading_agree(scheme, host, path):
    url = f"{scheme}{host}/{path}"
    careful = read(lambda url: origins._split(url, "here"), url)
    assert read(lambda url: origins.split_url(url, where="here"), url) == careful


@pytest.mark.parametrize("url", ["https://a:99999/x", "ftp://a/x"])
def test_errors_name_who_is_asking_each_time(url):
    for where in ("one", "two"):
        with pytest.raises(RegistryError) as caught:
            origins.split_url(url, where=where)
        assert caught.value.where == where
