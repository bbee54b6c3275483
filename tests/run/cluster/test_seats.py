"""Seats of made-up clusters."""

from talkverse_jax.run.cluster.seats import Seat, choose, find_seats


def node(name: str, alive: bool = True, labels: dict[str, str] | None = None, **resources: float) -> dict:
    """As `ray.nodes()` has it; its id is its name with an `id-` before it."""
    given = {kind.replace("_", "-"): count for kind, count in resources.items()}
    common = {"memory": 1e9, f"node:{name}": 1.0}
    return {
        "NodeID": f"id-{name}",
        "Alive": alive,
        "NodeManagerHostname": name,
        "Resources": common | given if alive else {},
        "Labels": labels or {},
    }


def slice_of(name: str, hosts: int, topology: str = "4x4") -> list[dict]:
    """Hosts of four chips, the last one first."""

    def labels(number: int) -> dict[str, str]:
        return {
            "ray.io/tpu-slice-name": name,
            "ray.io/tpu-worker-id": str(number),
            "ray.io/tpu-topology": topology,
        }

    found = [node(f"{name}-{n}", labels=labels(n), CPU=8, TPU=4, **{name: 1}) for n in range(hosts)]
    found[0]["Resources"]["TPU-v5litepod-16-head"] = 1.0
    return found[::-1]


def test_a_host_is_a_seat_with_all_it_has():
    seats = find_seats([node("b", CPU=16, GPU=8), node("a", CPU=16, GPU=2)])
    assert seats == [Seat("a", ("id-a",), (("GPU", 2.0),)), Seat("b", ("id-b",), (("GPU", 8.0),))]


def test_hosts_without_accelerators_count_where_there_are_no_others():
    head, plain = node("head"), node("plain", CPU=4)
    assert find_seats([head, plain]) == [Seat("plain", ("id-plain",), (("CPU", 4.0),))]
    assert [seat.name for seat in find_seats([head, plain, node("fast", CPU=4, GPU=1)])] == ["fast"]


def test_the_dead_have_no_seat():
    assert find_seats([node("a", alive=False, CPU=4)]) == []


def test_what_a_host_has_is_shared_out():
    seats = find_seats([node("a", CPU=16, GPU=8)], workers=4)
    assert [seat.name for seat in seats] == ["a#1", "a#2", "a#3", "a#4"]
    assert {seat.takes for seat in seats} == {(("GPU", 2.0),)}
    assert len(find_seats([node("a", CPU=16, GPU=2)], workers=4)) == 2
    assert len(find_seats([node("a", CPU=16, TPU=4)], workers=4)) == 1


def test_no_more_hosts_than_wanted_and_those_first_where_somebody_works():
    seats = find_seats([node(name, CPU=2) for name in "abc"], workers=2)
    assert [seat.name for seat in choose(seats, (), 1)] == ["a#1", "a#2"]
    assert [seat.name for seat in choose(seats, seats[3:4], 2)] == ["b#2", "a#1", "a#2", "b#1"]
    assert choose(seats, (), None) == seats


def test_hosts_of_one_name_are_told_apart_and_stay_the_same_when_one_goes():
    twin = node("a", CPU=1) | {"NodeID": "a-long-id"}
    both = find_seats([node("a", CPU=1), twin])
    assert [seat.name for seat in both] == ["a-a-long", "a-id-a"]
    assert find_seats([twin]) == both[:1]


def test_a_slice_is_one_seat_in_its_own_order():
    (seat,) = find_seats(slice_of("pod", 4))
    assert seat.name == "pod" and seat.nodes == ("id-pod-0", "id-pod-1", "id-pod-2", "id-pod-3")
    assert seat.takes == (("TPU", 4.0), ("pod", 1.0)) and seat.head == (("TPU-v5litepod-16-head", 1.0),)


def test_a_slice_is_waited_for_until_it_is_whole():
    nodes = slice_of("pod", 4)
    assert find_seats(nodes[1:]) == [] == find_seats(nodes[:-1])
    assert [seat.name for seat in find_seats([*nodes[1:], *slice_of("other", 4), node("a", TPU=8)])] == ["a", "other"]


def test_a_slice_of_one_host_is_a_host():
    (seat,) = find_seats(slice_of("pod", 1, "2x2"))
    assert seat == Seat("pod-0", ("id-pod-0",), (("TPU", 4.0),))
