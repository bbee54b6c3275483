"""The published PyTorch weights become weights for sample.py: `python convert_torch_weights.py --help`."""

from talkverse_jax.core.errors import run_command


def main(argv: list[str] | None = None) -> None:
    from talkverse_jax.cli.convert import parse

    args = parse(argv)

    from talkverse_jax.convert import convert, export, hub
    from talkverse_jax.families.talkverse.components import ModelConfigs

    sources = {name: getattr(args, name) for name in ("ckpt_dir", "lora_ckpt", "wav2vec_dir")}
    if args.download:
        fetched = hub.download(args.download, args.components)
        sources = {name: given or fetched.get(name) for name, given in sources.items()}
    if args.output and (any(sources.values()) or not args.export):
        configs = ModelConfigs.from_toml(args.config) if args.config else ModelConfigs.real_size()
        settings = convert.Settings(args.dtype, args.lora_rank, args.lora_alpha, args.lora_merge)
        convert.convert(args.output, args.components, configs, settings, **sources)
    if args.export:
        export.export(args.output, args.export)


if __name__ == "__main__":
    run_command(main)
