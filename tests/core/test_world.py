from tasks.core.world import World, join, joined, world


def test_alone_without_a_launcher(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert world() == World(0, 1)
    assert world().main
    assert joined()
    assert join() == (0, 1)


def test_what_the_launcher_says(monkeypatch):
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert world() == (2, 3)
    assert not world().main
    assert not joined()
    assert list(range(10))[world().share] == [2, 5, 8]
