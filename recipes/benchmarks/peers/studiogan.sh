# A GAN of all classes for each seed. StudioGAN's folders 0, 1, ... get the names of the classes.
set -e
export WANDB_MODE=offline LC_ALL=C
for seed in 0 1 2 3 4 5; do
  python PyTorch-StudioGAN/src/main.py -t -sf -sf_num 2000 --pre_resizer lanczos --seed $seed -cfg studiogan.yaml -data data -save runs/$seed
  mkdir -p candidates/$seed
  index=0
  for class in data/train/*/; do
    mv runs/$seed/samples/*/fake/$index "candidates/$seed/$(basename "$class")"
    index=$((index + 1))
  done
done
