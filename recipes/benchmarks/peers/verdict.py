"""predictions.npz -> the interval of the difference in balanced accuracy, a verdict, and page.html with images to look at."""

from base64 import b64encode
from pathlib import Path

import numpy as np
from torchvision.io import decode_image, encode_png
from torchvision.transforms.v2.functional import resize
from torchvision.utils import make_grid

found = np.load("predictions.npz")
truth, hits = found["truth"], found["predicted"] == found["truth"]  # hits: (seeds, without and with, images)
members = [np.flatnonzero(truth == label) for label in np.unique(truth)]
scores = np.mean([hits[:, :, rows].mean(2) for rows in members], axis=0)  # balanced accuracy: (seeds, without and with)
gains, rng, draws = hits[:, 1].astype(float) - hits[:, 0], np.random.default_rng(0), []
for _ in range(5000):  # other seeds, and other test images of each class
    drawn = gains[rng.integers(len(gains), size=len(gains))]
    draws.append(np.mean([drawn[:, rng.choice(rows, len(rows))].mean() for rows in members]))
low, high = np.percentile(draws, (2.5, 97.5))
verdict = "helps" if low > 0 else "hurts" if high < 0 else "equivalent" if max(-low, high) < 0.01 else "inconclusive"
gain = np.diff(scores.mean(0))[0]
text = f"{verdict}: {100 * gain:+.1f} points of balanced accuracy ({100 * low:+.1f} to {100 * high:+.1f})"
rows = "".join(f"<tr><td>{seed}<td>{a:.3f}<td>{b:.3f}" for seed, (a, b) in enumerate(scores))
pages = [f"<h1>{text}</h1><table><tr><th>seed<th>real<th>with synthetic{rows}</table>"]
for folder in sorted(Path("augmented/0").iterdir()):
    synthetic = sorted(folder.glob("synthetic-*"))
    shown = [path for path in sorted(folder.iterdir()) if path not in synthetic][:8] + synthetic[:8]
    grid = make_grid([resize(decode_image(str(path), "RGB"), [64, 64]) for path in shown])
    picture = b64encode(encode_png(grid).numpy().tobytes()).decode()
    pages.append(f"<h2>{folder.name}: real, then synthetic</h2><img src='data:image/png;base64,{picture}'>")
Path("page.html").write_text("\n".join(pages))
print(text)
