"""Apache Airflow provider for Yandex SpeechSense: speech analytics of calls and chats."""

__version__ = "0.1.0"
