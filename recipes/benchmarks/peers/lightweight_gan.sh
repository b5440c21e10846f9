# A GAN of each class and seed, since it knows no classes.
set -e
for seed in 0 1 2 3 4 5; do
  mkdir -p candidates/$seed
  for class in data/train/*/; do
    name="$(basename "$class")-seed$seed"
    lightweight_gan --data "$class" --name "$name" --image-size 64 --batch-size 8 --num-train-steps 10000
    lightweight_gan --name "$name" --generate --generate-types '[default]' --num-image-tiles 200
    mv "results/$name-generated-10" "candidates/$seed/$(basename "$class")"
  done
done
