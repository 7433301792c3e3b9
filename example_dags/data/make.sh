#!/usr/bin/env bash
# Makes the sample recordings next to itself: a two-channel phone call as WAV, MP3 and OggOpus, and a badge
# recording of three conversations in a shop. The JSON files here are written by hand and stay as they are.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

readonly RATE=8000
# Samples of 16 bits in one millisecond; positions are counted in samples.
readonly PER_MS=$((RATE / 1000))

for tool in espeak-ng sox soxi opusenc; do
  if ! command -v "$tool" >/dev/null; then
    echo "$tool is missing: apt-get install espeak-ng sox libsox-fmt-mp3 opus-tools" >&2
    exit 1
  fi
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# say WHO TEXT FILE: one utterance, without the silence around it. Without dither, every run gives the same.
say() {
  local voice
  case $1 in
    operator) voice=(-v ru+f2 -p 60 -s 185) ;;
    client) voice=(-v ru+m3 -p 35 -s 180) ;;
    buyer) voice=(-v ru+m7 -p 45 -s 180) ;;
    visitor) voice=(-v ru+f4 -p 40 -s 190) ;;
  esac
  espeak-ng "${voice[@]}" -b 1 -w "$work/raw.wav" "$2"
  sox -D "$work/raw.wav" -r "$RATE" -b 16 "$3" gain -n -6 silence 1 0.01 1% reverse silence 1 0.01 1% reverse
}

# record FILE CHANNELS: reads lines "PAUSE_MS WHO TEXT"; a negative pause interrupts the one who speaks.
# With two channels the client is on the second, and everybody else on the first.
record() {
  local file=$1 channels=$2 position=0 mix=() pause who text
  while read -r pause who text; do
    local turn=$work/turn${#mix[@]}.wav placed=$work/placed${#mix[@]}.wav sides=1
    if [[ $channels == 2 ]]; then
      [[ $who == client ]] && sides="0 1" || sides="1 0"
    fi
    say "$who" "$text" "$turn"
    position=$((position + pause * PER_MS))
    # shellcheck disable=SC2086  # two words for two channels
    sox -D "$turn" "$placed" remix $sides pad "${position}s"
    position=$((position + $(soxi -s "$turn")))
    mix+=(-v 1 "$placed")
  done
  sox -D -m "${mix[@]}" "$file" pad 0 0.3
}

record call.wav 2 <<'TURNS'
300 operator Служба доставки, Анна, здравствуйте!
350 client Здравствуйте. Посылку обещали вчера, а её всё нет.
300 operator Очень жаль. Назовите, пожалуйста, номер заказа.
400 client Сорок два, семнадцать.
300 operator Спасибо, минуту, я проверяю.
1800 operator Посылка задержалась на складе. Курьер приедет завтра с десяти до двух.
-600 client Завтра я работаю! Можно сегодня вечером?
450 operator Да, привезём сегодня после семи.
350 client Хорошо, спасибо.
250 operator Спасибо за терпение. До свидания!
TURNS

record badge.wav 1 <<'TURNS'
400 operator Добрый день! Что вам подсказать?
400 buyer Здравствуйте. Ищу чайник, недорогой.
350 operator Вот этот, на полтора литра, сегодня со скидкой.
500 buyer Отлично, беру.
4000 visitor Здравствуйте, можно вернуть наушники?
400 operator Здравствуйте. Чек у вас с собой?
350 visitor Да, вот он.
400 operator Хорошо, деньги вернутся на карту за три дня.
4000 client Скажите, у вас есть батарейки?
350 operator Да, на кассе. Сколько вам нужно?
400 client Четыре штуки, пожалуйста.
350 operator Двести рублей. Спасибо за покупку!
TURNS

sox -D call.wav -C 16 call.mp3
opusenc --quiet --bitrate 16 --serial 1 call.wav call.ogg

ls -l call.wav call.mp3 call.ogg badge.wav
