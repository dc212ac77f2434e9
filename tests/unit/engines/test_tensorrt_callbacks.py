"""What is shared by all builds of a process: TensorRT's logger, and the garbage collector."""

from __future__ import annotations

import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from made_up_tensorrt import make_tensorrt

from m2a.engines.tensorrt_callbacks import nothing_collected, shared_logger


@pytest.fixture
def trt():
    return make_tensorrt()


@pytest.fixture
def logger(trt):
    return shared_logger(trt)


def in_a_thread(call, *arguments):
    thread = threading.Thread(target=call, args=arguments)
    thread.start()
    thread.join()


def test_each_tensorrt_has_one_logger(trt, logger):
    assert shared_logger(trt) is logger
    assert shared_logger(make_tensorrt()) is not logger


def test_threads_that_ask_at_once_get_the_same_one(trt, monkeypatch):
    monkeypatch.setattr(trt.ILogger, "__init__", lambda self: time.sleep(0.05))
    together = threading.Barrier(4)

    def ask(_):
        together.wait()
        return shared_logger(trt)

    with ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(ask, range(4)))) == 1


def test_each_build_tells_what_was_said_since_it_began(trt, logger):
    first = logger.from_now_on()
    logger.log(trt.ILogger.ERROR, "no\nkernel")
    second = logger.from_now_on()
    assert second() == "it gives no reason"
    logger.log(trt.ILogger.WARNING, "slow")
    logger.log(trt.ILogger.INTERNAL_ERROR, "no memory")
    assert second() == "no memory"
    assert first() == "no kernel; no memory"


def test_what_tensorrt_says_in_its_own_threads_is_told(trt, logger):
    said = logger.from_now_on()
    in_a_thread(logger.log, trt.ILogger.ERROR, "no memory")
    assert said() == "no memory"


def test_a_process_that_goes_on_for_long_does_not_keep_all_errors(trt, logger):
    before = logger.from_now_on()
    for number in range(10_000):
        logger.log(trt.ILogger.ERROR, str(number))
    assert not before().startswith("0;")
    last = logger.from_now_on()
    logger.log(trt.ILogger.ERROR, "no memory")
    assert last() == "no memory"


@pytest.fixture
def collector():
    before = gc.isenabled()
    yield
    (gc.enable if before else gc.disable)()


@pytest.mark.usefixtures("collector")
@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_away_until_the_last_is_done(enabled):
    (gc.enable if enabled else gc.disable)()
    first, second = nothing_collected(), nothing_collected()
    first.__enter__()
    in_a_thread(second.__enter__)
    first.__exit__(None, None, None)
    assert not gc.isenabled()
    in_a_thread(second.__exit__, None, None, None)
    assert gc.isenabled() == enabled
