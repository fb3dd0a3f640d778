import numpy as np
import pytest

from gait.encoder import Encoder
from gait.streaming import StreamingEncoder
from pipeline.config import PipelineConfig
from pipeline.errors import ConfigError
from pipeline.runner import Pipeline
from pipeline.values import Batch, Frame
from pipeline.weights import encoder_file
from trackers.boxes import Detections, Mask

BOXES = np.array([(40, 60, 80, 156), (200, 60, 240, 156)], np.float32)
STREAMING = {"window": 20, "stride": 9, "min_length": 10}


class TwoPeople:
    """Finds the same two people in every frame, but the second one only from frame 12 to 40."""

    description, model_hash = "two people", None

    def close(self):
        pass

    def detect(self, frames):
        return [self._in(frame.index) for frame in frames]

    def _in(self, index):
        boxes = BOXES if 12 <= index < 41 else BOXES[:1]
        return Detections(boxes, np.full(len(boxes), 0.9, np.float32))


class Walkers:
    """Cuts out figures whose legs swing, differently for each place."""

    description, model_hash = "walkers", None

    def close(self):
        pass

    def segment(self, frames, tracks):
        return [
            tuple(self._mask(frame.index, box) for box in of_frame.xyxy)
            for frame, of_frame in zip(frames, tracks, strict=True)
        ]

    def _mask(self, index, box):
        rows, columns = np.mgrid[:96, :40]
        swing = 0.1 + 0.1 * np.sin(index / 2 + box[0])
        trunk = (rows < 53) & (abs(columns - 20) < 12)
        legs = (rows >= 53) & (abs(abs(columns - 20) - 40 * swing) < 5)
        return Mask(trunk | legs, round(float(box[0])), 60)


class Notebook:
    def __init__(self):
        self.recognitions = []

    def saw(self, frame, tracks, masks):
        pass

    def recognised(self, tracklet, embedding, match):
        self.recognitions.append((tracklet, embedding, match))


def pipeline(**changes):
    machine = Pipeline(PipelineConfig.model_validate(changes))
    machine.perception.detector, machine.perception.segmenter = TwoPeople(), Walkers()
    return machine


def run(machine, num_frames=60):
    image = np.zeros((240, 320, 3), np.uint8)
    frames = [Frame(image, "cam", index, index / 10) for index in range(num_frames)]
    batches = [Batch([frame]) for frame in frames[:-1]] + [Batch(frames[-1:], ended=["cam"])]
    notebook = Notebook()
    return list(machine.run(batches, notebook)), notebook.recognitions


def test_a_streaming_run_embeds_whole_walks_and_forgets_them_when_their_tracks_end():
    machine = pipeline(assembler=STREAMING)
    sightings, recognitions = run(machine)
    assert isinstance(machine.identity.encoder, StreamingEncoder)
    network = Encoder.from_weights(encoder_file("trackletgait-nano"))
    walks = {}
    for tracklet, embedding, _ in recognitions:
        if len(tracklet):
            whole = walks.setdefault(tracklet.track_id, [])
            assert tracklet.offset == sum(map(len, whole))
            whole.append(tracklet.silhouettes)
            [expected] = network.embed([np.concatenate(whole)])
            np.testing.assert_allclose(embedding, expected, rtol=0, atol=5e-5)
    assert len(walks) == 2
    assert len(machine.identity.encoder) == 0
    assert machine.identity.encoder.memory_bytes == 0
    assert machine.identity.encoder.counts.lost_beginnings == 0
    sent = {track_id: sum(map(len, whole)) for track_id, whole in walks.items()}
    assert {s.track_id: s.num_silhouettes for s in sightings} == sent
    assert {len(s.tracklets) for s in sightings} >= {len(walks[s.track_id]) for s in sightings}
    machine.close()


def test_a_walk_is_one_exemplar_of_the_gallery_however_often_it_was_embedded():
    machine = pipeline(assembler=STREAMING)
    run(machine)
    stored = list(machine.identity.gallery._store.exemplars())
    assert len(stored) == len(machine.identity.gallery) == 2
    machine.close()


def test_by_default_windows_are_embedded_one_by_one():
    machine = pipeline()
    _, recognitions = run(machine)
    assert isinstance(machine.identity.encoder, Encoder)
    assert {tracklet.offset for tracklet, _, _ in recognitions} == {0}
    machine.close()


@pytest.mark.parametrize(
    ("assembler", "tail", "streams"),
    [
        ({"window": 30, "stride": 26}, True, False),  # nano's tail costs 4.2 silhouettes
        ({"window": 30, "stride": 25}, True, True),
        ({"window": 30, "stride": 26}, False, True),  # without the tail there is no such cost
        ({"window": 30, "stride": 1, "mode": "windows"}, True, False),
        ({"mode": "streaming"}, True, True),
    ],
)
def test_the_assembler_streams_when_that_costs_this_network_less(assembler, tail, streams):
    machine = pipeline(assembler=assembler, encoder={"streaming": {"tail": tail}})
    assert isinstance(machine.identity.encoder, StreamingEncoder) == streams
    assert machine.identity.encoder.is_trained
    assert "trackletgait-nano" in machine.identity.encoder.description
    machine.close()


def test_a_streaming_encoder_has_the_hash_of_its_weights_so_galleries_stay_valid():
    machines = [pipeline(), pipeline(assembler={"mode": "streaming"})]
    assert machines[0].identity.encoder.model_hash == machines[1].identity.encoder.model_hash
    for machine in machines:
        machine.close()


def test_a_bound_too_small_for_one_walk_is_refused_in_words():
    settings = {"weights": "random", "variant": "standard", "streaming": {"max_memory_mb": 20}}
    with pytest.raises(ConfigError, match="max_memory_bytes: expected room for one walk, 23068672"):
        pipeline(assembler={"mode": "streaming"}, encoder=settings)


@pytest.mark.parametrize(("smallest", "serves"), [(0.999, "float16"), (1.1, "float32")])
def test_halves_serve_only_if_they_pass_the_gate(monkeypatch, tmp_path, caplog, smallest, serves):
    monkeypatch.setenv("TRACKLETGAIT_CACHE", str(tmp_path))
    monkeypatch.setattr("gait.runtimes.parity.SMALLEST_COSINE", smallest)
    settings = {"streaming": {"precision": "float16"}}
    machine = pipeline(assembler={"mode": "streaming"}, encoder=settings)
    assert machine.identity.encoder.precision == serves
    assert f"streaming, {serves} on" in machine.identity.encoder.description
    assert ("does not serve, float32 does" in caplog.text) == (serves == "float32")
    assert len(machine.identity.encoder) == 0
    machine.close()
