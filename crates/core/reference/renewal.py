"""Writes renewal.json: reference values for the thresholds of the policy `renewal`.

Run, from anywhere, with nothing but Python 3:

    python3 crates/core/reference/renewal.py

An independent computation: it follows docs/policies.md, "How `renewal` computes its threshold", from raw samples, with exact
fractions, and finds averages by bisection. It shares neither code nor method with the evaluator. The first case is the
worked example of that page, read from there.

renewal.json: per case `price` in byte-seconds, `lookback` and `now` in milliseconds, `pooling`, `rhythm`, the samples of each replica
as [time, generation, bytes] in milliseconds and bytes, and its `threshold` in bytes, null where it was seen for no time; `average` of the module, and `weight`
in seconds, null where there is none.
"""

import json
import math
import random
from fractions import Fraction
from pathlib import Path

HERE = Path(__file__).parent
DOCS = HERE.parents[2] / "docs" / "policies.md"
MIB = 1024 * 1024
MINUTE = 60_000


def lifetimes(samples):
    """Samples of one replica, cut where the generation changes or memory falls."""
    cut = []
    for time, generation, size in samples:
        if cut and cut[-1][-1][1] == generation and cut[-1][-1][2] <= size:
            cut[-1].append((time, generation, size))
        else:
            cut.append([(time, generation, size)])
    return cut


def inside(life, begin):
    """Area and length from the start, if it was seen, to the last sample; each size holds until the next sample."""
    area = sum((after[0] - sample[0]) * sample[2] for sample, after in zip(life, life[1:]))
    return area + (life[0][0] - begin) * life[0][2], life[-1][0] - begin


def partial_of_running(life, window, block):
    """What runs counts from its start; before the window by its sizes at the boundaries of blocks."""
    kept = [sample for sample in life if sample[0] >= window]
    start = life[0][1]
    before = {}
    for time, _, size in life:
        if time < window:
            before[(time // block + 1) * block] = size
    if not before:
        seen = kept[0][0] - start <= MINUTE
        return inside(kept, min(start, kept[0][0]) if seen else kept[0][0])
    boundaries = sorted(before)
    at, size = boundaries[0], before[boundaries[0]]
    begin = start if at - start <= block + MINUTE else at
    area = Fraction((at - begin) * size)
    for boundary in boundaries[1:]:
        # Nothing is known to have grown in blocks without a sample.
        area += (boundary - block - at) * size
        area += Fraction(block * (size + before[boundary]), 2)
        at, size = boundary, before[boundary]
    # The sum is kept in whole byte-milliseconds.
    area = Fraction(int(2 * area) // 2) + (kept[0][0] - at) * size
    more, _ = inside(kept, kept[0][0])
    return area + more, kept[-1][0] - begin


def start_of_running(life, window, block):
    """The size with which what runs was seen to start, if it was."""
    first = life[0]
    if first[0] >= window:
        return first[2] if first[0] - first[1] <= MINUTE else None
    boundary = (first[0] // block + 1) * block
    sizes = [size for time, _, size in life if time < min(window, boundary)]
    return sizes[-1] if boundary - first[1] <= block + MINUTE else None


class Slot:
    def __init__(self, samples, window, block, price):
        self.price, self.whole, self.partial = price, [], []
        self.starts = []
        self.ends = []
        cut = lifetimes(samples)
        last = None
        for number, life in enumerate(cut):
            runs = number == len(cut) - 1
            kept = [sample for sample in life if sample[0] >= window]
            if not kept:
                continue
            start, oldest = life[0][1], last is None
            seen = kept[0][0] - start <= MINUTE
            if runs:
                area, length = partial_of_running(life, window, block)
                self.starts.append(start_of_running(life, window, block))
            else:
                self.starts.append(kept[0][2] if seen else None)
                begin = min(max(start, last if last is not None else start), kept[0][0]) if seen else kept[0][0]
                area, length = inside(kept, begin)
            if not oldest and not seen:
                # Only samples were missed: its first size holds since its start.
                missed = kept[0][0] - min(max(start, last), kept[0][0])
                area, length = area + missed * kept[0][2], length + missed
            area, length = Fraction(area, 1000), Fraction(length, 1000)
            if runs or (oldest and not seen):
                self.partial.append((area, length))
            else:
                self.whole.append((area + price, length))
                self.ends.append((kept[-1][0] - 1000 * length, kept[-1][0], kept[-1][2]))
            last = kept[-1][0]
        self.time = sum(length for _, length in self.whole + self.partial)

    def cost(self, average):
        unfinished = (min(max(average * length, area), area + self.price) for area, length in self.partial)
        return sum(cost for cost, _ in self.whole) + sum(unfinished)

    def informative(self, average):
        """Time of lifetimes that were seen whole, or of which the average cannot be the cost."""
        partial = sum(
            length for area, length in self.partial if not area <= average * length <= area + self.price
        )
        return sum(length for _, length in self.whole) + partial

    def scatter(self):
        mean = sum(cost for cost, _ in self.whole) / sum(length for _, length in self.whole)
        squares = sum((cost - mean * length) ** 2 for cost, length in self.whole)
        return squares * len(self.whole) / (len(self.whole) - 1)


def highest(cost, time):
    """The highest average that agrees: cost(average) >= average * time, to 15 digits."""
    low, high = Fraction(0), Fraction(2**60)
    for _ in range(140):
        middle = (low + high) / 2
        # Where a range of averages agrees, its end is meant, not what rounding makes of it.
        if cost(middle) >= middle * time:
            low = middle
        else:
            high = middle
    return low


DAY = 86_400


def angle(millis):
    return math.tau * float(Fraction(millis, 1000) % DAY) / DAY


def explained(a, y):
    jitter = 0.005 * (a[0] + a[2])
    wave = solved(a, y, jitter)
    return wave[0] * y[0] + wave[1] * y[1]


def solved(a, y, ridge):
    """(A + ridge)^-1 y."""
    c, d, e = a[0] + ridge, a[1], a[2] + ridge
    determinant = c * e - d * d
    if determinant <= 0:
        return 0.0, 0.0
    return (e * y[0] - d * y[1]) / determinant, (c * y[1] - d * y[0]) / determinant


class Fit:
    """What a slot tells of the day, or nothing."""

    def __init__(self, slot, threshold):
        starts = [start for start in slot.starts if start is not None]
        paid = any(length * end[2] > cost for (cost, length), end in zip(slot.whole, slot.ends))
        self.follows, self.tells = bool(starts) and paid, False
        if not self.follows:
            return
        self.base = min(starts)
        self.span = max(float(threshold) - self.base, 524_288.0)
        self.tells = slot.ends[-1][1] - slot.ends[0][0] >= DAY * 1000
        self.n, self.q = len(slot.whole), 0.0
        self.seconds = float(sum(length for _, length in slot.whole))
        self.days = {}
        for (cost, length), (begin, end, _) in zip(slot.whole, slot.ends):
            if length == 0:
                continue
            turn = DAY / math.tau
            z = (
                turn * (math.sin(angle(end)) - math.sin(angle(begin))),
                turn * (math.cos(angle(begin)) - math.cos(angle(end))),
            )
            off = float(cost - Fraction(self.base + self.span) * length) / float(length)
            a, y = self.days.setdefault(end // (DAY * 1000) % 4, ([0.0] * 3, [0.0] * 2))
            for k, product in enumerate((z[0] * z[0], z[0] * z[1], z[1] * z[1])):
                a[k] += product / float(length)
            for k in range(2):
                y[k] += z[k] * off / self.span
            self.q += off * off * float(length) / self.span**2


def added(days):
    """The sums of several days, or of the same day in several slots."""
    days = list(days)
    return [sum(a[k] for a, _ in days) for k in range(3)], [sum(y[k] for _, y in days) for k in range(2)]


def beside(day, wave):
    """y - A wave."""
    a, y = day
    return [y[0] - a[0] * wave[0] - a[1] * wave[1], y[1] - a[1] * wave[0] - a[2] * wave[1]]


def between(days):
    """What days explain that differ from each other."""
    days = [day for day in days if day[0][0] + day[0][2] > 0]
    if len(days) < 2:
        return math.inf
    a, y = added(days)
    wave = solved(a, y, 0.005 * (a[0] + a[2]))
    return sum(explained(a, beside(day, wave)) for day in days) * len(days) / (len(days) - 1)


def with_rhythm(slots, found, now):
    """The thresholds at this time of day."""
    fits = [None if threshold is None else Fit(slot, threshold) for slot, threshold in zip(slots, found)]
    telling = [fit for fit in fits if fit and fit.tells]
    wave, own = (0.0, 0.0), None
    freedom = sum(fit.n for fit in telling) - len(telling) - 2
    if freedom > 0:
        module = [added(fit.days[day] for fit in telling if day in fit.days) for day in range(4)]
        a, y = added(module)
        total = explained(a, y)
        noise = max(sum(fit.q for fit in telling) - total, 0) / freedom
        chance = max(12 * noise, 3 * between(module))
        if total > chance:
            wave = solved(a, y, noise * (a[0] + a[2]) / (total - chance))
        several = [fit for fit in telling if fit.n > 3]
        if several:
            noise = max(sum(fit.q - explained(*added(fit.days.values())) for fit in several), 0)
            noise /= sum(fit.n - 3 for fit in several)
            days = [[(a, beside((a, y), wave)) for a, y in fit.days.values()] for fit in several]
            total = sum(explained(*added(of)) for of in days)
            chance = max(12 * len(several) * noise, 3 * sum(between(of) for of in days))
            if total > chance:
                own = noise * sum(a[0] + a[2] for of in days for a, _ in of) / (total - chance)
    moved = []
    for threshold, fit in zip(found, fits):
        if fit is None or not fit.follows or (wave == (0.0, 0.0) and own is None):
            moved.append(threshold)
            continue
        more = (0.0, 0.0)
        if own is not None and fit.tells:
            day = added(fit.days.values())
            more = solved(day[0], beside(day, wave), own)

        def share(time, wave=wave, more=more):
            turn = angle(time)
            found = 1 + (wave[0] + more[0]) * math.cos(turn) + (wave[1] + more[1]) * math.sin(turn)
            return min(max(found, 0.1), 4.0)

        hours = min(12, int(fit.seconds / fit.n / 3600))
        ahead = [share(now + (2 * hour + 1) * 1_800_000) for hour in range(hours)]
        means = [sum(ahead[: n + 1]) / (n + 1) for n in range(hours)]
        moved.append(fit.base + fit.span * max(share(now), *means))
    return moved


def thresholds(price, lookback, now, pooling, replicas, rhythm):
    block = max(lookback // 24, 1)
    window = (now - lookback) // block * block
    slots = [Slot(samples, window, block, price) for samples in replicas]
    time = sum(slot.time for slot in slots)
    average = highest(lambda a: sum(slot.cost(a) for slot in slots), time)
    weight = None
    repeated = [slot for slot in slots if len(slot.whole) > 1]
    informative = [(slot, slot.informative(average)) for slot in slots]
    informative = [(slot, seconds) for slot, seconds in informative if seconds > 0]
    if repeated and len(informative) > 1:
        within = sum(slot.scatter() for slot in repeated) / sum(
            length for slot in repeated for _, length in slot.whole
        )
        seconds = sum(seconds for _, seconds in informative)
        squares = sum(seconds**2 for _, seconds in informative)
        observed = sum((slot.cost(average) - average * slot.time) ** 2 / own for slot, own in informative)
        between = (observed - (len(informative) - 1) * within) / (seconds - squares / seconds)
        weight = within / between if between > 0 else None
    found = []
    for slot in slots:
        if slot.time == 0:
            found.append(None)
            continue
        others = time - slot.time
        a, w = Fraction(0), Fraction(0)
        if pooling == "adaptive" and others > 0:
            a = max(average * time - slot.cost(average), 0) / others
            w = min(others, weight) if weight is not None else others
        found.append(highest(lambda g: slot.cost(g) + w * a, slot.time + w))
    if rhythm == "auto":
        found = with_rhythm(slots, found, now)
    return {
        "thresholds": [None if threshold is None else float(threshold) for threshold in found],
        "average": float(average),
        "weight": None if weight is None else float(weight),
    }


def example():
    """The table of the worked example: | replica | start | MiB at each sample |."""
    text = DOCS.read_text().split("<!-- example -->")[1]
    replicas = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        if len(cells) != 4 or not cells[0].isdigit():
            continue
        replica, start, first = (int(cell) for cell in cells[:3])
        for n, size in enumerate(cells[3].split()):
            time = (first + 10 * n) * 1000
            replicas.setdefault(replica, []).append([time, start * 1000, int(size) * MIB])
    return {
        "name": "the worked example",
        "price": 200 * MIB,
        "lookback": 480_000,
        "now": 500_000,
        "pooling": "adaptive",
        "rhythm": "auto",
        "replicas": [replicas[replica] for replica in sorted(replicas)],
    }


def drawn(seed):
    """A module of some replicas that leak at rates of their own and are restarted at random."""
    draw = random.Random(seed)
    lookback = draw.choice([60_000, 240_000, 600_000])
    now = 1_700_000_000_000 + draw.randrange(1_000_000)
    replicas = []
    for _ in range(draw.randint(1, 6)):
        rate, samples = draw.uniform(0, 20_000), []
        time = now - draw.randint(lookback // 4, 3 * lookback)
        start = time - draw.choice([0, 1000, 30_000, 500_000])
        size, since = draw.randrange(1 << 22), time
        while True:
            if samples and draw.random() < 0.02 * (since < time):
                start, since = time - draw.randrange(1, 900), time
            held = size + int(rate * (time - since) / 1000)
            samples.append([time, start, held])
            step = draw.choice([5000] * 9 + [min(70_000, lookback // 2)])
            if time + step > now:
                break
            time += step
        replicas.append(samples)
    return {
        "name": f"drawn {seed}",
        "price": draw.choice([1 << 20, 1 << 26, 1 << 32]),
        "lookback": lookback,
        "now": now,
        "pooling": draw.choice(["adaptive", "adaptive", "off"]),
        "rhythm": "auto",
        "replicas": replicas,
    }


def drawn_by_day(seed):
    """A module whose replicas grow in office hours and are restarted above a size, for three days."""
    draw = random.Random(3000 + seed)
    begin, days = 1_700_000_000_000 // 86_400_000 * 86_400_000, 3
    now = begin + days * 86_400_000 + draw.randrange(86_400_000)
    opens, replicas = draw.uniform(0, 16), []
    for _ in range(draw.randint(1, 5)):
        rate, above, grows = draw.uniform(8, 40) * MIB, draw.uniform(10, 40) * MIB, draw.random() < 0.9
        opens_here = opens + draw.choice([0, 0, 0, draw.uniform(0, 24)])
        start, size, samples = begin, 2 * MIB, []
        for time in range(begin + 30_000, now, 900_000):
            hour = (time - begin) / 3_600_000 % 24
            open_now = opens_here % 24 <= hour < opens_here % 24 + 8
            size += int(draw.uniform(0.5, 1.5) * rate / 4 * (open_now or 0.02)) if grows else 0
            samples.append([time, start, size])
            if size > above or draw.random() < 0.002:
                start, size = time + 870_000, 2 * MIB
        replicas.append(samples)
    return {
        "name": f"by day {seed}",
        "price": 10 * MIB * 3600,
        "lookback": 3 * 86_400_000,
        "now": now,
        "pooling": draw.choice(["adaptive", "adaptive", "off"]),
        "rhythm": draw.choice(["auto", "auto", "auto", "off"]),
        "replicas": replicas,
    }


def main():
    cases = [example()] + [drawn(seed) for seed in range(40)] + [drawn_by_day(seed) for seed in range(16)]
    for case in cases:
        arguments = {key: case[key] for key in ("price", "lookback", "now", "pooling", "replicas", "rhythm")}
        case.update(thresholds(**arguments))
    text = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (HERE / "renewal.json").write_text(f"[\n{text}\n]\n")
    print(json.dumps({key: cases[0][key] for key in ("thresholds", "average", "weight")}, indent=2))


if __name__ == "__main__":
    main()
