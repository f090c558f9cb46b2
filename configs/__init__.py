"""Run configurations, one YAML file for each; `load_config` finds them by name."""
